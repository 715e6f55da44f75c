"""Depth of pixels: 8 bits a channel (uint8) or 16 (uint16), and the one scale of both, 0 to 255. Pure maths.

65535 = 257 * 255, so a byte b and the 16 bits 257 b are the same brightness, and become the same float32.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from opsin.arrays import Array

DTYPES: dict[int, DTypeLike] = {8: np.uint8, 16: np.uint16}
"""What pixels of each depth are stored as."""
STEPS = 257
"""Values of 16 bits for each of 8."""


def at_depth(pixels: Array, bits: int) -> Array:
    """Pixels of 8 or 16 bits with `bits` bits: rounded, or multiplied; themselves where they have as many.

    >>> at_depth(np.array([0, 129, 65535], np.uint16), 8).tolist(), at_depth(np.array([0, 255], np.uint8), 16).tolist()
    ([0, 1, 255], [0, 65535])
    """
    if bits == 16:
        return pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(STEPS)
    return _rounded(pixels) if pixels.dtype == np.uint16 else pixels


def _rounded(pixels: Array) -> NDArray[np.uint8]:
    rounded: Array = (pixels.astype(np.int32) + STEPS // 2) // STEPS
    return rounded.astype(np.uint8)


def brightness(pixels: Array) -> Array:
    """Pixels of 16 bits as float32 in [0, 255]; any others as they are.

    >>> brightness(np.array([257, 300], np.uint16)).tolist() == [1.0, float(np.float32(300) / np.float32(257))]
    True
    """
    return pixels.astype(np.float32) / np.float32(STEPS) if pixels.dtype == np.uint16 else pixels


def as_batch(pixels: Array) -> Tensor:
    """Images [B, C, H, W] as a network is given them: uint8 as they are, uint16 as float32 in [0, 255]."""
    return torch.from_numpy(brightness(pixels))
