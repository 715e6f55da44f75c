"""Networks around networks: ensembles, test-time views, recomputed activations."""
