"""Photos and masks that are larger than memory: pixels are mapped from the file, and masks written row by row.

Compressed photos cannot be opened in part, so that they are decoded whole: 3 bytes a pixel. What is stored as it is
lies in the file as it would in memory: arrays (`.npy`) and binary PPM and PGM.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.errors import ArrayError, ImageError
from opsin.io.files import writing_file
from opsin.io.gate import open_regular, refusing
from opsin.io.images import Limits, read_image

Bytes = NDArray[np.uint8]
MAPPED_SUFFIXES = (".npy", ".ppm", ".pgm")
LARGE = Limits(max_pixels=500_000_000, max_bytes=1 << 30)
"""Limits of a photo that is predicted in parts, and of which not more than its pixels lies in memory."""
HEADER_BYTES = 512
_NETPBM = re.compile(rb"(P[56])(?:\s|#[^\n]*\n)+(\d{1,7})(?:\s|#[^\n]*\n)+(\d{1,7})(?:\s|#[^\n]*\n)+255\s")


def open_pixels(path: Path, bits: int = 8) -> tuple[Array, tuple[str, ...]]:
    """The pixels of a photo of any size, uint8 [3 or 1, H, W], mapped where the format allows it; and notes.

    With `bits` of 16, uint16 of an image file that has them.

    Raises:
        ImageError: missing, damaged, of another format, or above a limit.
        ArrayError: an array that is not a photo.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _mapped_array(path), ("mapped from the file",)
    if suffix in MAPPED_SUFFIXES and (mapped := _mapped_netpbm(path)) is not None:
        return mapped, ("mapped from the file",)
    image = read_image(path, LARGE, bits=bits)
    return image.pixels, image.notes


def _mapped_array(path: Path) -> Bytes:
    with open_regular(path, ArrayError), refusing(ArrayError, path, "not a readable .npy file"):
        values: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or values.size == 0:
        got, expected = f"{values.dtype} {list(values.shape)}", "uint8 [H, W, 3], [3, H, W] or [H, W]"
        raise ArrayError("this array is not a photo", where=path, got=got, expected=expected)
    if values.ndim == 2:
        return values[None]
    if values.shape[2] in (1, 3):
        return values.transpose(2, 0, 1)
    if values.shape[0] in (1, 3):
        return values
    raise ArrayError("this array is not a photo", where=path, got=list(values.shape), expected="1 or 3 channels")


def _mapped_netpbm(path: Path) -> Bytes | None:
    """The pixels of a binary PPM or PGM of 8 bits, or None for its rarer kinds."""
    with open_regular(path, ImageError) as (file, size):
        match = _NETPBM.match(file.read(HEADER_BYTES))
    if match is None:
        return None
    channels, width, height = (3 if match[1] == b"P6" else 1), int(match[2]), int(match[3])
    needed = match.end() + channels * width * height
    if width * height == 0 or size < needed:
        raise ImageError("the image is cut off", where=path, got=f"{size:,} bytes", expected=f"{needed:,} bytes")
    shape = (height, width, channels)
    return np.memmap(path, np.uint8, mode="r", offset=match.end(), shape=shape).transpose(2, 0, 1)


class MaskWriter:
    """A palette PNG that is written from top to bottom, a few rows at a time.

    Source: PNG (third edition), W3C 2025, sections 5 and 11.
    """

    def __init__(self, file: BinaryIO, height: int, width: int, palette: Bytes) -> None:
        self._file, self._left, self._width = file, height, width
        self._packed = zlib.compressobj(6)
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        self._chunk(b"PLTE", palette.astype(np.uint8).tobytes())

    def write(self, rows: Bytes) -> None:
        """The next rows, uint8 [n, W] of class numbers."""
        if rows.shape[1] != self._width or len(rows) > self._left:
            raise ValueError(f"{rows.shape} rows do not fit: {self._left} rows of {self._width} are left")
        self._left -= len(rows)
        unfiltered = np.zeros((len(rows), self._width + 1), np.uint8)
        unfiltered[:, 1:] = rows
        if packed := self._packed.compress(unfiltered.tobytes()):
            self._chunk(b"IDAT", packed)

    def close(self) -> None:
        """Write the end of the file; all rows have been written."""
        if self._left:
            raise ValueError(f"{self._left} rows are missing")
        self._chunk(b"IDAT", self._packed.flush())
        self._chunk(b"IEND", b"")

    def _chunk(self, kind: bytes, data: bytes) -> None:
        self._file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


@contextmanager
def mask_writer(path: Path, height: int, width: int, palette: Bytes) -> Iterator[MaskWriter]:
    """A `MaskWriter` whose file appears under its name when all rows are written, or not at all.

    Raises:
        WriteError: the disk is full, faulty or forbids it.
    """
    with writing_file(path) as file:
        writer = MaskWriter(file, height, width, palette)
        yield writer
        writer.close()
