"""Pictures of a data set: a few samples of each class, as one image or inline in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from opsin.data.samples import Bytes, Dataset, Ints, Source
from opsin.errors import InputError
from opsin.io.images import encode_png
from opsin.ops.box_pictures import TRUE, draw_box
from opsin.ops.mask_pictures import overlaid
from opsin.ops.resize import fit_image
from opsin.types import SizePolicy, SplitName

MAX_CLASSES = 10
PER_CLASS = 8
MIN_CELL = 48
MAX_CELL = 96
GAP = 2
WHITE = 255


def examples(source: Source, *, per_class: int = PER_CLASS, max_classes: int = MAX_CLASSES) -> list[tuple[int, Ints]]:
    """First samples of the first classes: pairs of class number and sample numbers; -1 where there are no labels."""
    if source.labels is None:
        return [(-1, np.arange(min(per_class, len(source))))]
    present = np.unique(source.labels)[:max_classes]
    return [(int(label), np.flatnonzero(source.labels == label)[:per_class]) for label in present]


def sheet(rows: Sequence[Sequence[Bytes]], *, cell: int) -> Bytes:
    """Images side by side in rows.

    Args:
        rows: uint8 `[C, H, W]` images of any size.
        cell: side of the square that each is fitted into.

    Returns:
        uint8 `[3, H, W]`, white between the images.
    """
    columns = max((len(row) for row in rows), default=0)
    step = cell + GAP
    page = np.full((3, len(rows) * step + GAP, columns * step + GAP), WHITE, np.uint8)
    policy = SizePolicy(height=cell, width=cell, fit="pad")
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * step + GAP, c * step + GAP
            page[:, top : top + cell, left : left + cell] = fit_image(_enlarged(image, cell), policy)
    return page


def _enlarged(image: Bytes, cell: int) -> Bytes:
    """Small images grow by whole factors, so that their pixels stay visible."""
    factor = max(1, cell // max(image.shape[1:]))
    return image.repeat(factor, axis=1).repeat(factor, axis=2)


def cell_side(size: tuple[int, int] | None) -> int:
    """Side of a cell for images of this size: a multiple of it where that fits."""
    if size is None:
        return MAX_CELL
    side = max(size)
    return min(side * max(1, -(-MIN_CELL // side)), MAX_CELL)


def dataset_sheet(dataset: Dataset, split: SplitName = "train") -> tuple[Bytes, list[str]]:
    """Samples of a split, one row for each class, with their boxes or masks drawn; and the names of the rows.

    Returns:
        uint8 `[3, H, W]` and the names of the rows. An image that cannot be read leaves its place black.
    """
    source = dataset.splits[split]
    chosen = examples(source)
    background = 0 if dataset.classes[0] == "background" else None
    rows = [[_readable(source, int(i), background) for i in numbers] for _, numbers in chosen]
    names = [dataset.classes[label] if label >= 0 else split for label, _ in chosen]
    return sheet(rows, cell=cell_side(dataset.size)), names


def _readable(source: Source, i: int, background: int | None) -> Bytes:
    try:
        image, mask = source.image(i), source.mask(i)
        if source.boxes is not None:
            image = draw_box(np.repeat(image, 3 // len(image), axis=0), source.boxes[i], TRUE)
        return image if mask is None else overlaid(image, mask, background=background)
    except InputError:
        return np.zeros((3, 1, 1), np.uint8)


def dataset_html(dataset: Dataset) -> str:
    """A table of the splits and pictures of the first split, for notebooks. Loads no external resources."""
    split = next(iter(dataset.splits))
    pixels, names = dataset_sheet(dataset, split)
    picture = base64.b64encode(encode_png(pixels)).decode()
    sizes = ", ".join(f"{name} {len(source):,}" for name, source in dataset.splits.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in dataset.notes)
    labels = escape(", ".join(names))
    return (
        f"<div><b>{escape(dataset.name)}</b>: {escape(dataset.task)}, {len(dataset.classes)} classes; {sizes}<br>"
        f"{escape(dataset.layout)}<ul>{notes}</ul>"
        f'<img alt="samples of {labels}" src="data:image/png;base64,{picture}"><br>'
        f"<small>rows from the top: {labels}</small></div>"
    )
