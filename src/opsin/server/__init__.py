"""HTTP: a trained network that answers requests."""
