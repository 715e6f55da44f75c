"""Data sets: from a name, a path or arrays to samples ready to be batched."""
