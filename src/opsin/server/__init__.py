"""The HTTP server of trained networks."""
