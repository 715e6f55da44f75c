"""Images that are in memory already: bytes of a file, arrays, Pillow images. They are decoded as files are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from opsin.errors import ImageError
from opsin.io.gate import refusing
from opsin.io.images import DecodedImage, Sides, decode_image, read_image

ImageInput: TypeAlias = str | Path | bytes | np.ndarray | Image.Image
"""A path, the bytes of an image file, an array uint8 [H, W, 3] (RGB) or [H, W] (grey), or a Pillow image. For a network
of 16 bits a channel, arrays may be uint16, 0 to 65535."""
EXPECTED = "a path, bytes, an array uint8 [H, W, 3] or [H, W], or a Pillow image"


def image_of(item: ImageInput, name: str, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
    """Any image as upright RGB; `name` is what error messages call one that has no path.

    With `sides` and `bits`, files are decoded as `decode_image` says; what is decoded already is taken as it is, uint16
    only with `bits` of 16.

    Raises:
        ImageError: it cannot be read, or is not an image.
    """
    if isinstance(item, str | Path):
        return read_image(item, sides=sides, bits=bits)
    if isinstance(item, bytes):
        return decode_image(item, name, sides=sides, bits=bits)
    if isinstance(item, Image.Image):
        return decode_image(_as_png(item, name), name, bits=bits)
    if isinstance(item, np.ndarray):
        return DecodedImage(pixels=_channels_first(item, name, bits))
    raise ImageError("not an image", where=name, got=type(item).__name__, expected=EXPECTED)


def image_name(item: ImageInput, number: int) -> str:
    """What an image is called in predictions and messages: its path, or its place among those given."""
    if isinstance(item, str | Path):
        return str(item)
    return str(getattr(item, "filename", "")) or f"image {number}"


def _as_png(image: Image.Image, name: str) -> bytes:
    """The bytes of a PNG with the same pixels and orientation, so that the one decoder sees every image."""
    buffer = io.BytesIO()
    with refusing(ImageError, name, "the Pillow image cannot be read"):
        stored = image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image
        stored.save(buffer, "PNG", compress_level=1, exif=image.getexif())
    return buffer.getvalue()


def _channels_first(array: np.ndarray, name: str, bits: int) -> np.ndarray:
    """An array as uint8 [3, H, W], or uint16 where there may be 16 bits."""
    if array.ndim == 4:
        do = "give a list of its images: `list(array)`"
        raise ImageError("several images where one is expected", where=name, got=array.shape, expected=EXPECTED, do=do)
    known = array.dtype == np.uint8 or (bits == 16 and array.dtype == np.uint16)
    if not known or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        got = f"{array.dtype} {list(array.shape)}"
        kind, most = ("uint16", 65535) if bits == 16 else ("uint8", 255)
        do = f"bring values to 0..{most} as {kind}, and channels to the end: `.transpose(1, 2, 0)`"
        raise ImageError("not an image", where=name, got=got, expected=f"{kind} [H, W, 3] or [H, W]", do=do)
    grey = array[..., None].repeat(3, axis=2) if array.ndim == 2 else array
    return np.ascontiguousarray(grey.transpose(2, 0, 1))
