"""Checks of external boxes: their unit, their frame, and that they are inside their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.data.samples import Boxes, Ints
from opsin.errors import DataError, ImageError
from opsin.io.images import read_size
from opsin.ops.boxes import upright_boxes

NUM_NAMED = 20
ROUNDING_PX = 0.01
"""Boxes that exceed their image by less than this, in pixels, are clipped silently."""
SWAPPING = 5
"""EXIF orientations from here on swap height and width."""


def in_pixels(boxes: Array, sizes: Ints, units: str, *, where: str) -> tuple[NDArray[np.float64], str]:
    """Boxes in pixels, and a description of their unit.

    Boxes that all lie within 0 to 1, with fractions among them, are shares of the sides; numbers above 2 make them
    pixels. In between, and with only zeros and ones, the unit is ambiguous.

    Args:
        boxes: [N, 4] xyxy.
        sizes: int64 [N, 2], heights and widths; 0 where an image cannot be read.
        units: auto, pixels or normalized.
        where: file or array.

    Returns:
        float64 [N, 4], and the description.

    Raises:
        DataError: not [N, 4] numbers, or the unit is ambiguous.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        got, expected = f"{boxes.dtype} {list(boxes.shape)}", "numbers [N, 4]: xmin, ymin, xmax, ymax"
        raise DataError("boxes have the wrong shape", where=where, got=got, expected=expected)
    wide = boxes.astype(np.float64)
    sides = np.concatenate([sizes[:, ::-1], sizes[:, ::-1]], axis=1)
    if not len(boxes):
        raise DataError("there are no boxes", where=where, got="0 rows", expected="one box for each image")
    if units == "auto":
        units, said = _detected(wide, where), "detected"
    else:
        said = "as given"
    if units == "normalized":
        return wide * sides, f"boxes are normalized, shares of the sides ({said})"
    return wide, f"boxes are in pixels ({said})"


def _detected(boxes: NDArray[np.float64], where: str) -> str:
    finite = boxes[np.isfinite(boxes)]
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    if high > 2:
        return "pixels"
    if low >= 0 and high <= 1 and bool((finite != np.floor(finite)).any()):
        return "normalized"
    raise DataError(
        "the unit of the boxes is ambiguous: pixels or normalized",
        where=where,
        got=f"numbers from {low:g} to {high:g}",
        expected="shares of the sides from 0 to 1, or pixels, some of them above 2",
        do="set it: --box-units pixels or --box-units normalized",
    )


def checked_boxes(
    boxes: NDArray[np.float64], sizes: Ints, ids: Sequence[str], *, clip: bool, where: str
) -> tuple[Boxes, list[str]]:
    """Boxes inside their images.

    Args:
        boxes: float64 [N, 4] xyxy in pixels.
        sizes: int64 [N, 2], heights and widths; 0 where an image cannot be read, whose box is then not checked.
        ids: the display name of each sample.
        clip: clip boxes at the edge instead of refusing them.
        where: file or folder.

    Returns:
        float32 [N, 4], and notes on the number of clipped boxes.

    Raises:
        DataError: boxes are not finite, inverted, empty, or partly or entirely outside. Samples are named.
    """
    _refuse_inverted(boxes, sizes, ids, where)
    limits = np.concatenate([sizes[:, ::-1], sizes[:, ::-1]], axis=1).astype(np.float64)
    known = sizes.min(axis=1) > 0
    inside = np.where(known[:, None], np.clip(boxes, 0, limits), boxes)
    outside = np.abs(inside - boxes).max(axis=1, initial=0) > ROUNDING_PX
    lost = known & (inside[:, 2:] <= inside[:, :2]).any(axis=1)
    if lost.any() or (outside.any() and not clip):
        wrong = np.flatnonzero(lost if lost.any() else outside)
        raise DataError(
            f"{len(wrong)} boxes are " + ("entirely outside" if lost.any() else "partly outside") + " of their images",
            where=f"{where}: {listed([ids[i] for i in wrong.tolist()])}",
            got=f"e.g. {boxes[wrong[0]].round(2).tolist()} in an image of {sizes[wrong[0]][::-1].tolist()} (w, h)",
            expected="0 <= xmin < xmax <= width, 0 <= ymin < ymax <= height",
            do=None if lost.any() else "correct them, or clip them at the edge: --clip-boxes",
        )
    return inside.astype(np.float32), [f"{outside.sum()} boxes were clipped at the edge"] if outside.any() else []


def _refuse_inverted(boxes: NDArray[np.float64], sizes: Ints, ids: Sequence[str], where: str) -> None:
    inverted = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1) & (sizes.min(axis=1) > 0)
    wrong = np.flatnonzero(~np.isfinite(boxes).all(axis=1) | inverted)
    if not len(wrong):
        return
    ends = boxes[:, :2] + boxes[:, 2:]
    fits = np.isfinite(boxes).all() and bool((boxes >= 0).all() and (ends <= sizes[:, ::-1] + ROUNDING_PX).all())
    hint = "they would all fit as x, y, width, height: add the first two numbers to the last two"
    raise DataError(
        f"{len(wrong)} boxes are inverted, empty or not numbers",
        where=f"{where}: {listed([ids[i] for i in wrong.tolist()])}",
        got=f"e.g. {boxes[wrong[0]].tolist()}",
        expected="xmin < xmax and ymin < ymax",
        do=hint if fits else None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """How the boxes' pixels relate to those of the decoded images, which are upright.

    `sizes`: int64 [N, 2], heights and widths of the upright images. `stored`: those of the boxes' own frame.
    `turns`: EXIF orientation that a box has to follow, 1 for none.
    """

    sizes: Ints
    stored: Ints
    turns: Ints
    notes: tuple[str, ...] = ()

    def turn(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes [N, 4] in upright pixels."""
        turned = boxes.copy()
        for i in np.flatnonzero(self.turns > 1):
            height, width = (int(side) for side in self.stored[i])
            turned[i] = upright_boxes(boxes[i], int(self.turns[i]), height, width)
        return turned


def upright(
    paths: Sequence[Path], stated: Sequence[tuple[int, int] | None], ids: Sequence[str], frame: str, *, where: object
) -> Frames:
    """Which boxes refer to pixels before their photo was turned upright, as its EXIF orientation says.

    Where an annotation states a size that fits only one of the two, that decides. Otherwise the user has to say it.

    Args:
        paths: image files; one that cannot be read has size 0 (packing reports it).
        stated: (height, width) that each annotation states.
        ids: the display name of each sample.
        frame: auto, upright or stored.
        where: file or folder.

    Raises:
        DataError: a stated size differs from the image's, or the frame of boxes of rotated photos is unknown.
    """
    found = np.array([_size_of(path) for path in paths], np.int64).reshape(-1, 3)
    stored, orientations = found[:, :2], found[:, 2]
    swapped = orientations >= SWAPPING
    sizes = np.where(swapped[:, None], stored[:, ::-1], stored)
    known = np.array([size is not None for size in stated]) & (stored.min(axis=1) > 0)
    claimed = np.array([size or (0, 0) for size in stated], np.int64).reshape(-1, 2)
    as_stored, as_upright = (claimed == stored).all(axis=1), (claimed == sizes).all(axis=1)
    _refuse(known & ~as_stored & ~as_upright, ids, where, "annotations state another size than the image has")
    turned = orientations > 1
    decided = known & (as_stored != as_upright)
    if frame == "auto":
        what = (
            "photos have an EXIF orientation, and it is unknown whether their boxes refer to upright or stored pixels"
        )
        _refuse(turned & ~decided, ids, where, what, do="set it: --box-frame upright or --box-frame stored")
    follow = turned & np.where(decided, as_stored, frame == "stored")
    contrary = decided & turned & (frame != "auto") & (as_stored != (frame == "stored"))
    _refuse(contrary, ids, where, f"annotations state a size other than that of the {frame} pixels")
    notes = (f"{follow.sum()} boxes were turned upright with their photos",) if follow.any() else ()
    own = np.where(follow[:, None], stored, sizes)
    return Frames(sizes=sizes, stored=own, turns=np.where(follow, orientations, 1), notes=notes)


def _size_of(path: Path) -> tuple[int, int, int]:
    try:
        return read_size(path)
    except ImageError:
        return 0, 0, 1


def _refuse(wrong: NDArray[np.bool_], ids: Sequence[str], where: object, what: str, do: str | None = None) -> None:
    if wrong.any():
        names = listed([ids[i] for i in np.flatnonzero(wrong).tolist()])
        raise DataError(f"{wrong.sum()} {what}", where=f"{where}: {names}", do=do)


def listed(names: Sequence[str]) -> str:
    """The first few names, and the number of others."""
    return ", ".join(names[:NUM_NAMED]) + (f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else "")
