"""Setup: from data and settings to a network ready for training."""
