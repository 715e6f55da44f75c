"""Pixels as image files: PNG, JPEG, and palette PNGs of masks."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from opsin.errors import ImageError


def is_gray(pixels: np.ndarray) -> bool:
    """Whether all channels of `pixels`, uint8 [C, H, W], are equal."""
    return all(np.array_equal(pixels[0], channel) for channel in pixels[1:])


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG of `pixels`, uint8 [C, H, W] with C = 3 (RGB) or 1 (grey).

    Raises:
        ImageError: another shape or type.
    """
    buffer = io.BytesIO()
    _to_pillow(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def encode_jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    """A JPEG without colour subsampling of `pixels`, uint8 [C, H, W] with C = 3 (RGB) or 1 (grey).

    Raises:
        ImageError: another shape or type.
    """
    buffer = io.BytesIO()
    _to_pillow(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _to_pillow(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or 0 in pixels.shape:
        got, expected = f"{pixels.dtype} {list(pixels.shape)}", "uint8 [3, H, W] or [1, H, W]"
        raise ImageError("not an image", got=got, expected=expected)
    return Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def encode_mask(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """A palette PNG of class numbers uint8 [H, W], with the colours uint8 [256, 3]."""
    image = Image.fromarray(np.ascontiguousarray(indices))
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=8)
    return buffer.getvalue()
