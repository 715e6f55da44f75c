"""Pretrained weights: sources, input contracts, names of tensors."""
