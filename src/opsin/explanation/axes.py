"""Shared parts of the figures of this package: axes without ticks, photos, pale photos to draw on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAINTNESS = 0.35
"""Contrast of a photo under a map."""


def bare(axis: Axes) -> None:
    """Remove ticks and frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def show_photo(axis: Axes, pixels: NDArray[np.uint8]) -> None:
    """A photo uint8 [C, H, W], C = 1 or 3, that fills its axis, whatever is drawn over it later."""
    axis.imshow(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    axis.autoscale(False)
    bare(axis)


def pale(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A photo uint8 [C, H, W] as a pale grey one, on which colours stay visible: uint8 [1, H, W]."""
    faint: NDArray[np.uint8] = (255 - FAINTNESS * (255 - pixels.mean(axis=0, keepdims=True))).astype(np.uint8)
    return faint
