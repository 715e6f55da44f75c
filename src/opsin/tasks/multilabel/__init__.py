"""Multi-label classification: all classes present in an image."""
