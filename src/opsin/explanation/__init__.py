"""Explanation of filters and networks: kernels, feature maps, attribution."""
