"""How many pixels of images have each value: what their mean and spread are computed from, exactly.

Of packed images the counts are kept beside them: a start reads no pixel before its first batch then.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from opsin.arrays import Array
from opsin.data.samples import Ints, Pixels
from opsin.errors import InputError, WriteError
from opsin.io.sealed import read_sealed_json, write_sealed_json

PACKED = "images.bin"
"""Name of a file of packed images (`packed_files.py`)."""
CHUNK_BYTES = 1 << 22
"""Pixels that are read at once, so that memory maps larger than memory work."""


def levels_of(images: Pixels) -> Ints:
    """How many pixels of each channel of images [N, C, H, W] have each value: int64 [C, 256], of uint16 [C, 65536]."""
    if not isinstance(images, np.ndarray):
        return count_levels(images) if images.levels is None else images.levels
    file = _kept_in(images)
    known = None if file is None else _kept(file, images)
    if known is not None:
        return known
    counts = count_levels(images)
    if file is not None:
        with suppress(OSError, WriteError):  # it only saves time
            write_sealed_json(file, counts.tolist())
    return counts


def _kept_in(images: Array) -> Path | None:
    """The file in which the counts of all images of a packed file are kept; None for other arrays, and parts of one."""
    if not isinstance(images, np.memmap) or images.filename is None:
        return None
    file = Path(images.filename)
    with suppress(OSError):  # another process may have removed it from the cache
        if file.name == PACKED and file.stat().st_size == images.nbytes:
            return file.with_name("levels.json")
    return None


def _kept(file: Path, images: Array) -> Ints | None:
    """The counts in a file; None where it is missing, damaged, or not of these images."""
    with suppress(InputError, OSError, ValueError, OverflowError):
        levels = np.array(read_sealed_json(file), np.int64)
        num_images, channels, height, width = images.shape
        if len(levels) == channels and (levels.sum(axis=1) == num_images * height * width).all():
            return levels
    return None


def count_levels(images: Pixels) -> Ints:
    """As `levels_of`, from the pixels."""
    num_images, channels = images.shape[:2]
    num_bytes = int(np.prod(images.shape[1:])) * images.dtype.itemsize
    step, levels = max(1, CHUNK_BYTES // max(1, num_bytes)), np.iinfo(images.dtype).max + 1
    counts = np.zeros((channels, levels), dtype=np.int64)
    for start in range(0, num_images, step):
        chunk = np.asarray(images[start : start + step])
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].reshape(-1), minlength=levels)
    return counts
