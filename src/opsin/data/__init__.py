"""From a name, a path or arrays to samples that are ready to be batched."""
