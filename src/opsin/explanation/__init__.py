"""What a filter or a network does with an image: kernels, feature maps, attribution."""
