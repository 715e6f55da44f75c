"""Parts that networks are built of: layers, backbones, heads."""
