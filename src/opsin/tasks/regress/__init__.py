"""Regression: one or more numbers for each image."""
