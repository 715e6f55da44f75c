"""From data and settings to a network that is ready to be trained."""
