"""From every mode of Pillow to RGB of 8 bits, or of 16 where the file has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TWELVE_BITS = 1 << 12
"""Cameras and scanners store 12 bits in 16; as shares of 65535 these are nearly black."""


def to_rgb(image: Image.Image, bits: int, notes: list[str]) -> Image.Image:
    """Any mode as RGB, by the table at the top of `images`; what is done is added to `notes`.

    `bits`: of one stored sample of one channel.

    Raises:
        ValueError: values outside of what their type says.
    """
    if bits > 8:
        notes.append(f"{bits} bits scaled to 8")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if bits > 8 and values.size and values.max() < TWELVE_BITS:
            notes.append("16 bits of which 12 or fewer are used: at most 17 of 256 grey levels are left")
        return Image.fromarray(_from_16_bits(values)).convert("RGB")
    if image.mode == "F":
        notes.append("float scaled from 0..1 to 8 bits")
        return Image.fromarray(_from_float(np.asarray(image))).convert("RGB")
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(image, notes)
    if image.mode not in ("L", "RGB"):
        notes.append(f"mode {image.mode} converted")
    return image if image.mode == "RGB" else image.convert("RGB")


def to_deep_rgb(image: Image.Image, low: Image.Image | None, notes: list[str]) -> NDArray[np.uint16] | None:
    """An image of 16 bits as uint16 [3, H, W], by the same table; None where Pillow gives 8 bits of it.

    `low`: its low bytes, where it has colours and `image` has the high bytes.

    Raises:
        ValueError: values outside of what their type says.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = _checked_16_bits(np.asarray(image)).astype(np.uint16)
        if grey.size and grey.max() < TWELVE_BITS:
            notes.append("16 bits of which 12 or fewer are used: kept, at a sixteenth of the brightness or less")
        return np.repeat(grey[None], 3, axis=0)
    if low is None or image.mode not in ("RGB", "RGBA"):
        return None
    high_HWC, low_HWC = np.asarray(image), np.asarray(low)
    samples = np.ascontiguousarray(((high_HWC.astype(np.uint16) << 8) | low_HWC).transpose(2, 0, 1))
    if image.mode == "RGBA":
        return _deep_on_white(samples[:3], samples[3].astype(np.int64), notes)
    if (clear := image.info.get("transparency")) is None:
        return samples
    alpha = np.where((samples == np.array(clear, np.uint16)[:, None, None]).all(axis=0), 0, 65535)
    return _deep_on_white(samples, alpha, notes)


def _deep_on_white(colors: NDArray[np.uint16], alpha: NDArray[np.int64], notes: list[str]) -> NDArray[np.uint16]:
    """Colours uint16 [3, H, W] over white where alpha [H, W], 0 to 65535, is less."""
    if alpha.min() == 65535:
        notes.append("opaque alpha dropped")
        return colors
    notes.append("transparency composited on white")
    mixed: NDArray[np.int64] = (colors * alpha + 65535 * (65535 - alpha) + 32767) // 65535
    return mixed.astype(np.uint16)


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    """Values 0..65535 as uint8, [H, W]: 257 = 65535 / 255."""
    scaled: np.ndarray = (_checked_16_bits(values) + 128) // 257
    return scaled.astype(np.uint8)


def _checked_16_bits(values: np.ndarray) -> NDArray[np.int32]:
    wide = values.astype(np.int32)
    if wide.size and (wide.min() < 0 or wide.max() > 65535):
        raise ValueError(f"values {wide.min()} to {wide.max()}, expected 0 to 65535")
    return wide


def _from_float(values: np.ndarray) -> np.ndarray:
    """Values 0..1 as uint8, [H, W]."""
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"float values {values.min()} to {values.max()}, expected 0 to 1")
    scaled: np.ndarray = np.rint(values * 255)
    return scaled.astype(np.uint8)


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    lowest = alpha.getextrema()[0]
    notes.append("opaque alpha dropped" if lowest == 255 else "transparency composited on white")
    colors = rgba.convert("RGB")
    del rgba
    if lowest == 255:
        return colors
    white = Image.new("RGB", image.size, "white")
    white.paste(colors, mask=alpha)
    return white
