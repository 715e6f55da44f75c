"""Boxes drawn into pixels: the true box and the predicted one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

TRUE = (86, 180, 233)
"""Colour of true boxes, RGB: sky blue. Source: Okabe and Ito, "Color universal design", 2008."""
PREDICTED = (230, 159, 0)
"""Colour of predicted boxes, RGB: orange of the same palette."""


def draw_box(pixels: Bytes, box: Sequence[float] | NDArray[np.floating], colour: tuple[int, int, int]) -> Bytes:
    """A copy of an image with the outline of a box, drawn inside of its edges.

    Args:
        pixels: uint8 `[3, H, W]`.
        box: xyxy in pixels, x2 and y2 exclusive; what lies outside of the image is left out.
        colour: RGB.

    Returns:
        uint8 `[3, H, W]`. The line is one pixel wide, two or more in images over 200 pixels.
    """
    drawn = pixels.copy()
    height, width = pixels.shape[1:]
    limits = (width, height, width, height)
    x1, y1, x2, y2 = (int(np.clip(round(float(edge)), 0, end)) for edge, end in zip(box, limits, strict=True))
    if x2 <= x1 or y2 <= y1:
        return drawn
    line = max(1, min(height, width) // 100)
    inside = np.zeros((height, width), bool)
    inside[y1:y2, x1:x2] = True
    inside[y1 + line : y2 - line, x1 + line : x2 - line] = False
    drawn[:, inside] = np.array(colour, np.uint8)[:, None]
    return drawn


def enlarge(pixels: Bytes, least_px: int) -> tuple[Bytes, int]:
    """Small images grown by a whole factor, so that lines do not hide their pixels.

    Args:
        pixels: uint8 `[C, H, W]`.
        least_px: the longer side becomes at least this long.

    Returns:
        uint8 `[C, f H, f W]` and the factor f.
    """
    factor = max(1, -(-least_px // max(pixels.shape[1:])))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2), factor
