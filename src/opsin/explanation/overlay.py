"""An attribution over its photo, as pixels: what a page shows beside an answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FULL_COLOUR = 0.99
"""Quantile of the map that is drawn in full colour."""
HOT = np.array([230, 90, 0], np.float32)
"""The colour of what the answer depends on most."""
PALE = 0.6
"""How far the photo fades where the answer does not depend on it: 0 not at all, 1 to white."""


def heat(pixels: NDArray[np.uint8], found: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The photo, pale and grey, with orange where the map is large.

    Args:
        pixels: uint8 [C, H, W], C = 1 or 3.
        found: float32 [H, W], 0 or more; what is below counts as 0.

    Returns:
        uint8 [3, H, W].
    """
    reach = float(np.quantile(found, FULL_COLOUR))
    share = np.clip(found / reach, 0, 1)[None] if reach > 0 else np.zeros((1, *found.shape), np.float32)
    grey = pixels.astype(np.float32).mean(axis=0, keepdims=True)
    faint = 255 - (1 - PALE * (1 - share)) * (255 - grey)
    mixed = faint * (1 - 0.6 * share) + HOT[:, None, None] * 0.6 * share
    drawn: NDArray[np.uint8] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return drawn
