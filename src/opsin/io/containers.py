"""The outer structure of image files, read in plain Python before any decoder sees a byte.

Each reader below walks one format from the first byte to its end mark, which tells: the true format (never the
suffix), the size in pixels, the number of frames, the EXIF block, and whether the file is whole. What the pixels do not
need (text, colour profiles, EXIF, further frames) is left out of the bytes handed on, so that bombs in it never reach a
decoder. All loops are linear in the length of the file.

Sources: PNG https://www.w3.org/TR/png-3, JPEG ITU T.81 annex B, GIF89a https://www.w3.org/Graphics/GIF/spec-gif89a.txt,
WebP RFC 9649, BMP https://learn.microsoft.com/windows/win32/gdi/bitmap-storage, PNM https://netpbm.sourceforge.net/doc/ppm.html.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

import numpy as np

FormatName = Literal["JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM"]

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"IEND")
PNG_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SEQUENTIAL = (0xC0, 0xC1)
JPEG_METADATA_MARKERS = (frozenset(range(0xE1, 0xF0)) - {0xEE}) | {0xFE}
"""APP1 to APP15 and comments, but APP14: Adobe's colour transform is part of the pixels."""
IN_PIXELS = np.isin(np.arange(256), (0x00, 0xFF, *range(0xD0, 0xD8)))
"""Bytes that follow 0xFF inside the pixel data of a JPEG; any other is the mark of a segment."""
MAX_SCANS = 100
"""Passes over a progressive JPEG: photos have about ten; each is decoded over all pixels."""
FIRST_SEARCHED_BYTES = 64
SEARCHED_BYTES = 1 << 20
"""Pixel data are searched in blocks that grow from the first to the second: many short scans cost little too."""
BITS_PER_SAMPLE, MAX_TIFF_ENTRIES, MAX_TIFF_CHANNELS = 258, 4096, 64
PNM_HEADER = re.compile(
    rb"P([1-6f])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)",
)


@dataclass(frozen=True, kw_only=True)
class Container:
    """What the structure of an image file says.

    Attributes:
        data: the bytes that the pixels need.
        width, height: in pixels, as stored (before orientation).
        frames: 1 for a still image.
        exif: a TIFF block, or None.
        text_bytes: length of all text after unpacking, counted up to the limit.
        bits: of one sample of one channel.
        scans: passes over the pixels (progressive JPEG has several).
        one_chain: JPEG pixel data that are one chain of codes, of which damage may show at the end (`jpeg`).
    """

    format: FormatName
    data: bytes
    width: int
    height: int
    frames: int = 1
    exif: bytes | None = None
    text_bytes: int = 0
    bits: int = 8
    scans: int = 1
    one_chain: bool = False


def open_container(data: bytes, max_text_bytes: int) -> Container:
    """The structure of an image file.

    Raises:
        ValueError, struct.error: no allowed format, or a file that breaks its format's rules or ends early.
    """
    for magic, read in READERS.items():
        if re.match(magic, data, re.DOTALL):
            return read(data, max_text_bytes)
    raise ValueError(f"not a JPEG, PNG, WEBP, BMP, GIF or PPM: it starts with {data[:8].hex(' ')}")


def _whole(holds: bool, what: str = "the file is cut off") -> None:
    if not holds:
        raise ValueError(what)


def _read_png(data: bytes, max_text_bytes: int) -> Container:
    kept, exif, frames, text_bytes = [PNG_MAGIC], None, 1, 0
    for kind, start, end in _png_chunks(data):
        body = data[start:end]
        if kind in PNG_PIXEL_CHUNKS:
            kept.append(data[start - 8 : end + 4])
        elif kind == b"eXIf":
            exif = body
        elif kind == b"acTL":
            frames = struct.unpack_from(">I", body)[0]
        elif kind in PNG_TEXT_CHUNKS and text_bytes <= max_text_bytes:
            text_bytes += _unpacked_length(kind, body, max_text_bytes - text_bytes)
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    clean = b"".join(kept)
    return Container(
        format="PNG", data=clean, width=width, height=height, bits=bits, frames=frames, exif=exif, text_bytes=text_bytes
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the body of each chunk, from IHDR to IEND; checksums of critical chunks hold."""
    position, kind = len(PNG_MAGIC), b""
    while kind != b"IEND":
        _whole(position + 12 <= len(data))
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        start, end = position + 8, position + 8 + length
        _whole(end + 4 <= len(data))
        _whole((start == 16) == (kind == b"IHDR"), "IHDR is not the first chunk")
        if kind in PNG_PIXEL_CHUNKS:
            (checksum,) = struct.unpack_from(">I", data, end)
            _whole(zlib.crc32(memoryview(data)[start - 4 : end]) == checksum, f"damaged chunk {kind.decode()}")
        yield kind, start, end
        position = end + 4


def _unpacked_length(kind: bytes, body: bytes, limit: int) -> int:
    """Length of a text chunk after unpacking, counted no further than just above `limit`."""
    keyword, _, rest = body.partition(b"\0")
    packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
    if not packed:
        return len(body)
    stream = rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
    try:
        return len(keyword) + len(zlib.decompressobj().decompress(stream, max(1, limit + 1)))
    except zlib.error:
        return len(body)  # damaged text is no reason to lose the pixels: it is not handed on


def _read_jpeg(data: bytes, _: int) -> Container:
    view = memoryview(data)  # of tens of megabytes, no part is copied twice
    kept, size, exif, scans, one_chain = [view[:2]], None, None, 0, False
    position = 2
    while True:
        _whole(position + 2 <= len(data) and data[position] == 0xFF, "the file is cut off or damaged")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xD9:
            break
        _whole(position + 4 <= len(data))
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        _whole(end <= len(data) and end >= position + 4)
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0" and exif is None:
            exif = data[position + 10 : end]
        if marker in JPEG_SIZE_MARKERS:
            _whole(size is None, "two frame headers")
            size, one_chain = struct.unpack_from(">BHH", data, position + 4), marker in JPEG_SEQUENTIAL
        if marker == 0xDD:
            one_chain = False
        if marker == 0xDA:
            scans += 1
            _whole(scans <= MAX_SCANS, f"more than {MAX_SCANS} passes")
            end = _next_jpeg_marker(data, end)
        if marker not in JPEG_METADATA_MARKERS:
            kept.append(view[position:end])
        position = end
    if size is None or scans == 0:
        raise ValueError("no pixels")
    bits, height, width = size
    return Container(
        format="JPEG",
        data=b"".join([*kept, b"\xff\xd9"]),
        width=width,
        height=height,
        bits=bits,
        exif=exif,
        scans=scans,
        one_chain=one_chain and scans == 1,
    )


def _next_jpeg_marker(data: bytes, start: int) -> int:
    """Where the pixel data that begin at `start` end: the place of the next mark. Photos are mostly pixel data."""
    place, size = start, FIRST_SEARCHED_BYTES
    while place < len(data) - 1:
        block = np.frombuffer(data, np.uint8, min(size + 1, len(data) - place), place)
        found = np.flatnonzero(block[:-1] == 0xFF)
        marks = found[~IN_PIXELS[block[found + 1]]]
        if len(marks):
            return place + int(marks[0])
        place, size = place + size, min(2 * size, SEARCHED_BYTES)
    raise ValueError("the file is cut off")


def _read_gif(data: bytes, _: int) -> Container:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _color_table_bytes(flags)
    frames, first_end = 0, 0
    while True:
        _whole(position < len(data))
        block = data[position]
        if block == 0x3B:
            break
        if block == 0x21:
            position = _skip_gif_blocks(data, position + 2)
        elif block == 0x2C:
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, position + 1)
            position = _skip_gif_blocks(data, position + 10 + _color_table_bytes(flags) + 1)
            frames += 1
            if frames == 1:
                first_end = position
                width, height = max(width, left + frame_width), max(height, top + frame_height)
        else:
            raise ValueError(f"unknown block {block:#x}")
    _whole(frames > 0, "no frame")
    return Container(format="GIF", data=data[:first_end] + b";", width=width, height=height, frames=frames)


def _color_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_gif_blocks(data: bytes, position: int) -> int:
    """The position after a chain of sub-blocks."""
    while True:
        _whole(position < len(data))
        length = data[position]
        position += 1 + length
        if length == 0:
            return position


def _read_webp(data: bytes, _: int) -> Container:
    end = 8 + int.from_bytes(data[4:8], "little")
    _whole(end <= len(data))
    position, size, exif, frames = 12, None, None, 0
    while position + 8 <= end:
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        start = position + 8
        _whole(start + length <= end)
        if kind == b"EXIF":
            exif = data[start : start + length].removeprefix(b"Exif\0\0")
        frames += kind == b"ANMF"
        size = size or _webp_size(kind, data[start : start + 10])
        position = start + length + length % 2
    if size is None:
        raise ValueError("no pixels")
    width, height = size
    return Container(format="WEBP", data=data[:end], width=width, height=height, frames=max(1, frames), exif=exif)


def _webp_size(kind: bytes, head: bytes) -> tuple[int, int] | None:
    """(width, height) that the first chunk of a WebP file states."""
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _read_bmp(data: bytes, _: int) -> Container:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:
        width, height, _planes, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _planes, bits = struct.unpack_from("<iiHH", data, 18)
    _whole(width >= 0, "negative width")
    return Container(format="BMP", data=data, width=width, height=abs(height), bits=min(bits, 8))


def _read_pnm(data: bytes, _: int) -> Container:
    header = PNM_HEADER.match(data[:4096])
    if header is None:
        raise ValueError("no PPM header")
    kind, width, height = header.groups()
    maximum = re.match(rb"(?:\s|#[^\n]*\n)*(\d{1,9})", data[header.end() : header.end() + 4096])
    bits = 16 if kind in b"2356" and maximum and int(maximum.group(1)) > 255 else 8
    return Container(format="PPM", data=data, width=int(width), height=int(height), bits=bits)


READERS: dict[bytes, Callable[[bytes, int], Container]] = {
    rb"\x89PNG\r\n\x1a\n": _read_png,
    rb"\xff\xd8\xff": _read_jpeg,
    rb"GIF8[79]a": _read_gif,
    rb"RIFF....WEBP": _read_webp,
    rb"BM": _read_bmp,
    rb"P[1-6f]\s": _read_pnm,
}
"""What a file of each allowed format starts with, and who walks it."""


def stored_bits(file: BinaryIO) -> int:
    """Bits of one sample of one channel by the header of a PNG or TIFF; 8 for any other file.

    Raises:
        struct.error: the header is cut off.
    """
    head = file.read(25)
    if head.startswith(PNG_MAGIC):
        return int(struct.unpack_from(">B", head, 24)[0])
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    kind = struct.unpack_from(f"{order}H", head, 2)[0] if order else None
    return _tiff_bits(file, order or "<", head, big=kind == 43) if kind in (42, 43) else 8


def _tiff_bits(file: BinaryIO, order: str, head: bytes, *, big: bool) -> int:
    """The most bits of a sample in the first directory of a TIFF; 1 where it does not say.

    Source: TIFF 6.0, tag 258 (BitsPerSample, SHORT); BigTIFF has counts and offsets of 8 bytes.
    """
    number, count = (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
    width, entry = struct.calcsize(number), 20 if big else 12

    def unpacked(form: str, place: int) -> tuple[int, ...]:
        file.seek(place)
        return struct.unpack(form, file.read(struct.calcsize(form)))

    directory = int(struct.unpack_from(number, head, 8 if big else 4)[0])
    (entries,) = unpacked(count, directory)
    first = directory + struct.calcsize(count)
    for place in range(first, first + entry * min(entries, MAX_TIFF_ENTRIES), entry):
        if unpacked(f"{order}H", place) == (BITS_PER_SAMPLE,):
            (channels,) = unpacked(number, place + 4)
            inside = 2 * channels <= width
            (start,) = (place + 4 + width,) if inside else unpacked(number, place + 4 + width)
            return max(unpacked(f"{order}{min(channels, MAX_TIFF_CHANNELS)}H", start), default=1)
    return 1


def exif_orientation(exif: bytes | None) -> int | None:
    """The orientation in an EXIF block: 1 where it says nothing, None where the block or the value is broken.

    Source: EXIF 2.32, tag 0x0112 of the first directory.
    """
    if not exif:
        return 1
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"

    def number(start: int, length: int) -> int:
        return int.from_bytes(exif[start : start + length], order)

    directory = number(4, 4)
    num_entries = number(directory, 2)
    if exif[:2] not in (b"II", b"MM") or number(2, 2) != 42 or directory + 2 + 12 * num_entries > len(exif):
        return None
    for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
        if number(entry, 2) == 0x0112:
            value = number(entry + 8, 2)
            return value if number(entry + 2, 2) == 3 and 1 <= value <= 8 else None
    return 1
