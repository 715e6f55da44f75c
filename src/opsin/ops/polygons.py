"""Masks out of polygons and run lengths. numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opsin.errors import DataError

Inside = NDArray[np.bool_]


def fill_polygon(corners: Sequence[float], height: int, width: int) -> Inside:
    """The pixels whose centre lies inside a polygon, by the even-odd rule: bool [height, width].

    >>> fill_polygon([1, 0, 3, 0, 3, 2, 1, 2], 3, 4).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]

    Args:
        corners: x and y of each corner in turn, in pixels from the upper left edge of the image.
        height, width: of the mask.

    Raises:
        DataError: fewer than three corners, half a corner, or a corner that is not a finite number.
    """
    points = np.asarray(corners, np.float64).reshape(-1)
    if len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise DataError("not a polygon", got=f"{len(points)} numbers", expected="x, y of three corners or more")
    x, y = points[0::2], points[1::2]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    columns = np.arange(width) + 0.5
    mask = np.zeros((height, width), bool)
    for row in range(max(0, int(np.floor(y.min() - 0.5))), min(height, int(np.ceil(y.max() + 0.5)))):
        level = row + 0.5
        crossed = (y <= level) != (next_y <= level)
        share = (level - y[crossed]) / (next_y[crossed] - y[crossed])
        crossings = np.sort(x[crossed] + share * (next_x[crossed] - x[crossed]))
        mask[row] = np.searchsorted(crossings, columns, side="right") % 2 == 1
    return mask


def decode_counts(text: str) -> list[int]:
    """Run lengths out of COCO's compressed text.

    A character holds 5 bits, the lowest first; from the fourth run on a number is the difference to the run two before.

    Source: pycocotools, maskApi.c, rleFrString.

    >>> decode_counts("123")
    [1, 2, 3]

    Raises:
        DataError: a character that is none of this code, or a run that is cut off.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise DataError("not compressed run lengths", got=repr(character), expected="characters from `0` to `o`")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (bits & 16) << (shift - 4) if bits & 16 else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise DataError("compressed run lengths are cut off", got=f"{len(text)} characters")
    return counts


def fill_runs(counts: Sequence[int], height: int, width: int) -> Inside:
    """The mask of run lengths, column by column, beginning outside: bool [height, width].

    >>> fill_runs([1, 2, 1], 2, 2).astype(int).tolist()
    [[0, 1], [1, 0]]

    Raises:
        DataError: the runs do not add up to the image.
    """
    runs = np.asarray(counts, np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise DataError("run lengths do not fill the image", got=int(runs.sum()), expected=height * width)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T
