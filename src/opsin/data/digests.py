"""Hashes of images, by which equal ones are found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opsin.data.samples import Bytes, Pixels

DIGEST_BYTES = 16
COMPARED_BYTES = 4096
"""Bytes from the middle of each image by which most of those that equal no other are told."""
COMPARED_TOGETHER = 8192


def digest(pixels: Bytes) -> bytes:
    """A hash of the shape and pixels of one image; equal only for equal images."""
    hashed = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=DIGEST_BYTES)
    hashed.update(np.ascontiguousarray(pixels).data)
    return hashed.digest()


def digests_of_copies(parts: Sequence[Pixels]) -> list[list[bytes | None]]:
    """Hashes of the images that may equal another one of any part, None for those that surely do not.

    Args:
        parts: packed images `[N, C, H, W]`. Of most only `COMPARED_BYTES` are read.
    """
    sums = np.concatenate([np.empty(0, np.uint64), *map(_sums, parts)])
    _, group_of, sizes = np.unique(sums, return_inverse=True, return_counts=True)
    alike = np.split(sizes[group_of] > 1, np.cumsum([len(images) for images in parts], dtype=np.int64))[:-1]
    return [
        [digest(images[i]) if hashed else None for i, hashed in enumerate(rows.tolist())]
        for images, rows in zip(parts, alike, strict=True)
    ]


def _sums(images: Pixels) -> NDArray[np.uint64]:
    """`[N]`: a sum of the bytes in the middle of each image, equal for equal images and seldom for others."""
    sums = np.zeros(len(images), np.uint64)
    for start in range(0, len(images), COMPARED_TOGETHER):
        chunk = np.asarray(images[start : start + COMPARED_TOGETHER])
        rows = chunk.reshape(len(chunk), -1).view(np.uint8)
        words = min(rows.shape[1], COMPARED_BYTES) // 8
        first = (rows.shape[1] - 8 * words) // 2
        middle = np.ascontiguousarray(rows[:, first : first + 8 * words]).view(np.uint64)
        weights = np.random.default_rng(0).integers(0, 2**64, words, dtype=np.uint64) | np.uint64(1)
        sums[start : start + len(chunk)] = middle @ weights  # modulo 2^64
    return sums
