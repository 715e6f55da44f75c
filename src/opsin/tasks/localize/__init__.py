"""Localization: the class of the one object of an image, and the box around it."""
