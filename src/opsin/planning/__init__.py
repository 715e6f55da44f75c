"""How big a network is, whether it fits, and how long it takes: before anything runs."""
