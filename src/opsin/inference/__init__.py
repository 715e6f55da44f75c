"""From bytes, arrays or files to predictions: the one inference path."""
