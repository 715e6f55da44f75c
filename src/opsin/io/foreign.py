"""Formats of pictures that are not read, told by their first bytes, and what to do about them."""

from __future__ import annotations

import re

from opsin.io.decoders import CONVERT as CONVERT
from opsin.io.decoders import KindName

FOREIGN_SUFFIXES = frozenset({".jxl", ".jp2", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw"})
"""Suffixes of pictures that are not read: they are named where a folder is searched, never left out in silence."""
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
MAX_BRANDS = 16
CONVERT_ALL = "convert them to JPEG: `magick mogrify -format jpg *.jxl`"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", "a JPEG 2000"),
    (rb"8BPS", "a Photoshop file"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file"),
    (rb"%PDF", "a PDF"),
    (rb"\s*<(?:\?xml|svg|!DOCTYPE svg)", "an SVG or another XML file"),
    (rb"SIMPLE  =", "a FITS file"),
)


def second_tier(data: bytes) -> KindName | None:
    """The format of a file whose decoder runs in a process of its own, by its first bytes; None for any other.

    >>> second_tier(b"II*\\0")
    'TIFF'
    """
    if re.match(rb"II[*+]\0|MM\0[*+]", data):
        return "TIFF"
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4]), 16 + 4 * MAX_BRANDS, len(data))
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    if brands & AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & HEIF_BRANDS else None


def foreign_format(data: bytes) -> tuple[str, str] | None:
    """The name of a format that is not read and what to do about it; None where the format is not known.

    Source of the brands: ISO/IEC 23008-12 annex B, and AV1 Image File Format 1.1, section 6.

    >>> foreign_format(b"8BPS")
    ('a Photoshop file', 'convert it to JPEG or PNG: `magick FILE FILE.jpg`')
    """
    if second_tier(data) is not None:
        return None
    if data[4:8] == b"ftyp":
        return "a video, or another file of that family", "leave it out, or take single frames of it as JPEG"
    return next(((name, CONVERT) for magic, name in _MAGIC if re.match(magic, data)), None)
