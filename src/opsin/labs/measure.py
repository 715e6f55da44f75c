"""Measurements that several labs share, where the public API has none of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def photo(side: int) -> NDArray[np.uint8]:
    """The embedded photo of a temple, its middle, enlarged by repeating pixels: uint8 [3, side, side], RGB."""
    from opsin.explanation.kernels import sample_image

    image = sample_image()
    _, height, width = image.shape
    left = (width - height) // 2
    places = np.arange(side) * height // side
    return np.ascontiguousarray(image[:, places][:, :, left + places])


def conv2d(image: NDArray[Any], weights: Floats) -> Floats:
    """What PyTorch's Conv2d layer with these weights, one filter and no padding, makes of an image.

    Args:
        image: [C, H, W], any numbers.
        weights: [C, h, w].

    Returns:
        [H - h + 1, W - w + 1].
    """
    import torch

    layer = torch.nn.Conv2d(len(weights), 1, weights.shape[1:], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights[None]))
        answer: Floats = layer(torch.from_numpy(np.asarray(image, np.float64)[None]))[0, 0].numpy()
    return answer
