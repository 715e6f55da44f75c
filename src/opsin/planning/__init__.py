"""Planning: size, memory and time of a network, before training."""
