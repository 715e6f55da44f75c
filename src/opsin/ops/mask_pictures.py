"""Masks as pictures: class colours, overlays, what is wrong. numpy.

Colours are those of Pascal VOC: class 0 is black, void is ivory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opsin.types import VOID

UNCERTAINTY_STEPS = 15
"""Steps of a stored uncertainty map: few, because one is kept for every pixel."""

Bytes = NDArray[np.uint8]
OPACITY = 0.55
MISSED, INVENTED, CONFUSED, AGREED = (214, 64, 69), (245, 166, 35), (148, 80, 200), (70, 150, 95)
"""Colours of a difference: missed foreground, false foreground, one class for another, right foreground."""


def palette() -> Bytes:
    """The colour of each value of a mask: uint8 [256, 3], RGB.

    Bit j of the three lowest bits of the value, of the next three, and so on, go to red, green and blue from the
    highest bit down.

    >>> palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]

    Source: Everingham et al., the VOC 2012 development kit, VOClabelcolormap.m.
    """
    values = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (values >> (3 * place + channel)) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours


def coloured(mask: Bytes) -> Bytes:
    """A mask uint8 [H, W] in its colours: uint8 [3, H, W]."""
    return np.ascontiguousarray(palette()[mask].transpose(2, 0, 1))


def overlaid(image: Bytes, mask: Bytes, *, background: int | None = 0) -> Bytes:
    """The image, uint8 [1 or 3, H, W], under the colours of its mask, uint8 [H, W]: uint8 [3, H, W].

    `background` is the class that is left as it is, or None; void is left as it is too.
    """
    shown = (mask != VOID) & (mask != (VOID if background is None else background))
    return blended(image, coloured(mask), shown)


def blended(image: Bytes, colours: Bytes, where: NDArray[np.bool_]) -> Bytes:
    """`colours` uint8 [3, H, W] over the image uint8 [1 or 3, H, W], half transparent, `where` bool [H, W]."""
    base = np.broadcast_to(image, (3, *image.shape[1:]))
    mixed = np.rint((1 - OPACITY) * base + OPACITY * colours).astype(np.uint8)
    return np.where(where, mixed, base)


def difference(truth: Bytes, mask: Bytes, *, background: int | None = 0) -> Bytes:
    """What is wrong with a mask, in colours: uint8 [3, H, W]. Right background is white, void grey.

    Without a background class every right pixel is green and every wrong one is purple.
    """
    none = VOID if background is None else background
    painted = np.full((*truth.shape, 3), 255, np.uint8)
    painted[(truth == mask) & (truth != none)] = AGREED
    painted[truth != mask] = CONFUSED
    if background is not None:
        painted[(truth != none) & (mask == none)] = MISSED
        painted[(truth == none) & (mask != none)] = INVENTED
    painted[truth == VOID] = 190
    return np.ascontiguousarray(painted.transpose(2, 0, 1))
