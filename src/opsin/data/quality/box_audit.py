"""Findings on boxes before training.

Boxes that are empty, inverted or outside of their images are refused by the readers, and photos of several objects are
counted there. What remains is the size of boxes relative to their images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from opsin.data.quality.findings import NUM_NAMED, Finding, percent
from opsin.data.samples import Boxes, Dataset
from opsin.types import SplitName

WHOLE = 0.99
"""Share of the image from which a box counts as the whole image."""
TINY = 0.02
"""Share of an image's side below which a box has under 2 px at an input of 96 px."""
Flags = NDArray[np.bool_]


def box_findings(dataset: Dataset, sizes: Mapping[SplitName, NDArray[np.int32]]) -> list[Finding]:
    """Findings on boxes; none for a data set without boxes.

    Args:
        dataset: its boxes are in pixels of the upright images.
        sizes: by split, int32 `[N, 2]`, heights and widths of the upright images; 0 for one that cannot be read.
    """
    found: list[Finding] = []
    areas: list[NDArray[np.float64]] = []
    for name, source in dataset.splits.items():
        if source.boxes is None:
            continue
        sides, readable = _shares(source.boxes, sizes[name]), sizes[name].min(axis=1) > 0
        areas.append(sides[readable].prod(axis=1))
        whole, tiny = readable & (sides.prod(axis=1) >= WHOLE), readable & (sides.min(axis=1) < TINY)
        found += _noted(dataset, name, "whole-image-boxes", whole, "the whole image: position cannot be learned")
        found += _noted(dataset, name, "tiny-boxes", tiny, f"under {TINY:.0%} of a side of the image")
    return [*_spread(np.concatenate(areas)), *found] if areas else []


def _shares(boxes: Boxes, sizes: NDArray[np.int32]) -> NDArray[np.float64]:
    """Widths and heights of boxes as shares of their images' sides: float64 `[N, 2]`."""
    return (boxes[:, 2:] - boxes[:, :2]).astype(np.float64) / np.maximum(sizes[:, ::-1], 1)


def _spread(areas: NDArray[np.float64]) -> list[Finding]:
    """Smallest, median and largest share of an image covered by its box."""
    if not len(areas):
        return []
    low, middle, high = (percent(float(value)) for value in np.quantile(areas, (0, 0.5, 1)))
    message = f"boxes cover {low} to {high} of their images, half of them under {middle}"
    if low == high:
        message = f"boxes cover {low} of their images"
    return [Finding(kind="box-sizes", severity="info", message=message, count=len(areas))]


def _noted(dataset: Dataset, name: SplitName, kind: str, flags: Flags, what: str) -> list[Finding]:
    numbers = np.flatnonzero(flags)
    if not len(numbers):
        return []
    subject = f"{len(numbers):,} of {len(flags):,} boxes of {name} " + ("covers" if len(numbers) == 1 else "cover")
    named = tuple(dataset.splits[name].ids[i] for i in numbers[:NUM_NAMED].tolist())
    return [Finding(kind=kind, severity="warning", message=f"{subject} {what}", count=len(numbers), samples=named)]
