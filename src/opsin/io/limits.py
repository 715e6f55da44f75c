"""What is refused of an image file before any decoder runs: its length, its structure, and what it claims to hold."""

from __future__ import annotations

from dataclasses import dataclass

from opsin.errors import ImageError
from opsin.io.containers import Container, open_container
from opsin.io.foreign import foreign_format
from opsin.io.gate import MEBIBYTE, check_size, printable, refusing

MAX_FRAMES = 10_000
MAX_SCANNED_SHARE = 20
"""Progressive JPEG: more passes than this only for images of less than `free_pixels`, which bounds the time."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused before any decoder runs.

    Attributes:
        max_pixels: width times height, whatever the memory.
        free_pixels: up to this number neither memory nor the length of the file is looked at; a photo with more must
            fit into half of free memory.
        max_pixels_per_byte: of files with more than `free_pixels`; photos have up to 20, flat drawings some hundred.
        max_bytes: length of the file.
        max_text_bytes: all text chunks of a PNG together, unpacked.
    """

    max_pixels: int = 500_000_000
    free_pixels: int = 25_000_000
    max_pixels_per_byte: int = 300
    max_bytes: int = 256 * MEBIBYTE
    max_text_bytes: int = 4 * MEBIBYTE


LIMITS = Limits()


def checked_container(data: bytes, name: str, limits: Limits) -> Container:
    """The structure of the file in `data`, within the limits.

    Raises:
        ImageError: no whole image file of the first tier, or beyond a limit; `name` is in the message.
    """
    check_size(len(data), limits.max_bytes, name, ImageError)
    if (foreign := foreign_format(data)) is not None:
        kind, do = foreign
        expected = "JPEG, PNG, WEBP, BMP, GIF, PPM, PGM, HEIC, AVIF or TIFF"
        raise ImageError(f"{kind}: Opsin does not read these", where=printable(name), expected=expected, do=do)
    with refusing(ImageError, name, "not a whole image file of an allowed format"):
        container = open_container(data, limits.max_text_bytes)
    pixels = container.width * container.height
    checks = (
        ("an image without pixels", pixels, pixels > 0, "at least 1 x 1"),
        ("too many pixels", pixels, pixels <= limits.max_pixels, f"at most {limits.max_pixels:,}"),
        (
            "too many pixels for so short a file",
            f"{pixels:,} pixels in {len(data):,} bytes",
            pixels <= max(limits.free_pixels, limits.max_pixels_per_byte * len(data)),
            f"at most {limits.max_pixels_per_byte} a byte",
        ),
        ("too many frames", container.frames, container.frames <= MAX_FRAMES, f"at most {MAX_FRAMES}"),
        ("too much text", "more", container.text_bytes <= limits.max_text_bytes, f"{limits.max_text_bytes} bytes"),
        (
            "too many passes for its size",
            container.scans,
            container.scans * pixels <= MAX_SCANNED_SHARE * max(pixels, limits.free_pixels),
            f"at most {MAX_SCANNED_SHARE}",
        ),
    )
    for what, got, holds, expected in checks:
        if not holds:
            raise ImageError(
                what, where=printable(name), got=got, expected=expected, do="make it smaller, or leave it out"
            )
    return container
