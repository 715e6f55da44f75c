"""Checks of network, input and gradients before the first step."""
