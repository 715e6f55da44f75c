"""Pretrained weights: where they are, what they expect of their input, how their tensors are called."""
