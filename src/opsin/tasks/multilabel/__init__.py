"""Multi-label classification: each class that is there, in each image."""
