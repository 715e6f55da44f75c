"""How many pixels of images have each value: what their mean and spread are computed from, exactly."""

from __future__ import annotations

import numpy as np

from opsin.data.samples import Ints, Pixels

CHUNK_BYTES = 1 << 22
"""Pixels that are read at once, so that memory maps larger than memory work."""


def count_levels(images: Pixels) -> Ints:
    """How many pixels of each channel of images [N, C, H, W] have each value: int64 [C, 256], of uint16 [C, 65536]."""
    num_images, channels = images.shape[:2]
    num_bytes = int(np.prod(images.shape[1:])) * images.dtype.itemsize
    step, levels = max(1, CHUNK_BYTES // max(1, num_bytes)), np.iinfo(images.dtype).max + 1
    counts = np.zeros((channels, levels), dtype=np.int64)
    for start in range(0, num_images, step):
        chunk = np.asarray(images[start : start + step])
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].reshape(-1), minlength=levels)
    return counts
