"""Image files of 16 bits a channel, which Pillow does not write in colour, and data sets of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Deep = NDArray[np.uint16]
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Of a PNG, by the number of its channels. Source: https://www.w3.org/TR/png-3, table 9."""
MIDDLE = 0x8000
"""Grey whose neighbours up to 255 higher are all 128 when they are rounded to 8 bits, or cut."""


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column of each pass over an interlaced PNG, and its steps. Source: the same, section 8.1."""


def deep_png(pixels: Deep, *, clear: tuple[int, ...] = (), orientation: int = 1, interlaced: bool = False) -> bytes:
    """A PNG of pixels [H, W, C]; rows are filtered in turn by none, left and up.

    `clear`: the value of each channel that is transparent.
    """
    height, width, channels = pixels.shape
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, width * channels * 2)
    lines = []
    for y, row in enumerate(rows):
        left = np.concatenate([np.zeros(2 * channels, np.uint8), row[: -2 * channels]])
        above = rows[y - 1] if y else np.zeros_like(row)
        lines.append(bytes([y % 3]) + (row - (np.zeros_like(row), left, above)[y % 3]).tobytes())
    if interlaced:
        parts = [pixels[y::down, x::right].astype(">u2") for y, x, down, right in ADAM7]
        lines = [b"\0" + row.tobytes() for part in parts if part.size for row in part]
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, interlaced)
    exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    chunks = [(b"IHDR", header), (b"eXIf", exif)]
    chunks += [(b"tRNS", struct.pack(f">{len(clear)}H", *clear))] if clear else []
    chunks += [(b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def deep_tiff(pixels: Deep, *, order: str = "<", packed: bool = False, orientation: int = 1) -> bytes:
    """A TIFF of pixels [H, W, C], C of 1, 3 or 4, in the byte order "<" or ">", plain or deflated."""
    height, width, channels = pixels.shape
    data = pixels.astype(order + "u2").tobytes()
    data = zlib.compress(data) if packed else data
    shorts = {256: width, 257: height, 259: 8 if packed else 1, 262: 1 if channels == 1 else 2, 277: channels}
    shorts |= {274: orientation, 278: height, 284: 1} | ({338: 2} if channels == 4 else {})
    start = 8 + 2 + 12 * (len(shorts) + 3) + 4
    entries = {tag: struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()}
    bits = struct.pack(order + "HH", 16, 0) if channels == 1 else struct.pack(order + "I", start)
    entries[258] = struct.pack(order + "HHI", 258, 3, channels) + bits
    entries[273] = struct.pack(order + "HHII", 273, 4, 1, start + 2 * channels)
    entries[279] = struct.pack(order + "HHII", 279, 4, 1, len(data))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    body = b"".join(entries[tag] for tag in sorted(entries)) + struct.pack(order + "I", 0)
    return head + body + struct.pack(f"{order}{channels}H", *[16] * channels) + data


def planar_tiff(pixels: Deep) -> bytes:
    """A TIFF of pixels [H, W, 3] whose colours lie in a plane each, one after the other."""
    height, width, channels = pixels.shape
    shorts = {256: width, 257: height, 259: 1, 262: 2, 277: channels, 278: height, 284: 2}
    start = 8 + 2 + 12 * (len(shorts) + 3) + 4
    lengths = start + 2 * channels
    offsets, data, plane = lengths + 4 * channels, lengths + 8 * channels, 2 * height * width
    entries = {tag: struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in shorts.items()}
    entries[258] = struct.pack("<HHII", 258, 3, channels, start)
    entries[273] = struct.pack("<HHII", 273, 4, channels, offsets)
    entries[279] = struct.pack("<HHII", 279, 4, channels, lengths)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
    lists = [*[plane] * channels, *(data + plane * channel for channel in range(channels))]
    values = struct.pack(f"<I{channels}H{len(lists)}I", 0, *[16] * channels, *lists)
    return head + values + pixels.astype("<u2").transpose(2, 0, 1).tobytes()


def random_pixels(height: int, width: int, channels: int, seed: int = 0) -> Deep:
    """Pixels [H, W, C] of all 65,536 values."""
    return np.random.default_rng(seed).integers(0, 1 << 16, (height, width, channels), np.uint16)


def low_bits(generator: np.random.Generator, *, right: bool, side: int = 16, channels: int = 1) -> Deep:
    """An image [side, side, C] whose left or right half is brighter by 100 of 65,535: in 8 bits it is flat.

    Three pixels of the corner differ from image to image in their high bytes too, so that no two are equal in 8 bits.
    """
    low = generator.integers(0, 120, (side, side, channels))
    low[:, side // 2 :] += 100 * right
    low[:, : side // 2] += 100 * (not right)
    high = np.zeros_like(low)
    high[0, :3] = generator.integers(-8, 9, (3, 1)) * 256
    return (MIDDLE + low + high).astype(np.uint16)


def low_bit_classes(folder: Path, *, channels: int = 1, num: int = 24, tiff: bool = False) -> Path:
    """Class folders `left` and `right`, split, of images that differ in their low 8 bits alone."""
    generator = np.random.default_rng(0)
    for split, count in (("train", num), ("val", num), ("test", 2)):
        for right, name in enumerate(("left", "right")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = low_bits(generator, right=bool(right), channels=channels)
                data = deep_tiff(pixels) if tiff else deep_png(pixels)
                (folder / split / name / f"{i}.{'tif' if tiff else 'png'}").write_bytes(data)
    return folder
