"""Hashes of images, by which equal ones are found."""

from __future__ import annotations

import hashlib

import numpy as np

from opsin.data.samples import Bytes

DIGEST_BYTES = 16


def digest(pixels: Bytes) -> bytes:
    """A hash of the shape and pixels of one image; equal only for equal images."""
    hashed = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=DIGEST_BYTES)
    hashed.update(np.ascontiguousarray(pixels).data)
    return hashed.digest()
