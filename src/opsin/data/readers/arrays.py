"""Readers of data sets that are arrays: an `.npz` file or a mapping from Python.

Known names are images (or x) and labels (or y), also boxes, masks, tags, numbers (or values), groups, ids, each alone
or with the name of a split (`x_train`, `train_images`), and classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array, Arrays
from opsin.data.readers.folders import SPLIT_NAMES
from opsin.data.readers.found import Found
from opsin.data.readers.labels import NUM_NAMED, whole_labels
from opsin.data.samples import Bytes, Ints, numbered_ids
from opsin.data.sources import ArraySource
from opsin.errors import DataError
from opsin.types import SPLITS, VOID, SplitName, TaskName

KINDS = {
    "images": "images",
    "image": "images",
    "x": "images",
    "labels": "labels",
    "label": "labels",
    "y": "labels",
    "boxes": "boxes",
    "masks": "masks",
    "tags": "tags",
    "numbers": "numbers",
    "values": "numbers",
    "groups": "groups",
    "ids": "ids",
}
TASKS: Mapping[str, TaskName] = {
    "masks": "segment",
    "boxes": "localize",
    "tags": "multilabel",
    "numbers": "regress",
    "labels": "classify",
}
"""Task by kind of target; with several kinds the first applies."""
COLUMNS = {"tags": "", "numbers": "value_"}
"""Targets with one column per class, and the prefix of generated class names."""
CLASS_KEYS = ("classes", "class_names")
CHANNELS = (1, 3)
MAX_UNNAMED_CLASSES = 65_536
"""Largest number of classes inferred from the highest label, unless there are more samples."""


def read_arrays(arrays: Mapping[str, object], *, name: str, where: str, root: Path | None = None) -> Found:
    """A data set from arrays by name.

    Raises:
        DataError: no images, unequal lengths, an ambiguous layout, values that are not pixels, invalid labels, mask
            values without a class.
    """
    parts, left_out = _by_split(arrays, where)
    given = next((np.asarray(arrays[key]) for key in CLASS_KEYS if key in arrays), None)
    layouts = {layout_of(part["images"], where) for part in parts.values()}
    if len(layouts) > 1:
        raise DataError(
            "the splits have images of different layouts",
            where=where,
            got=", ".join(sorted(layouts)),
            do="transpose them to one layout",
        )
    layout = layouts.pop()
    classes, parts = _numbered_labels(parts, given, where)
    notes = [f"ignored arrays: {', '.join(left_out)}"] if left_out else []
    sources = {split: _source(part, split, layout, where, notes) for split, part in parts.items()}
    pool = sources.pop(None, None)
    every = [*sources.values(), *([pool] if pool else [])]
    classes = classes or _column_names(every) or _mask_classes(every, where)
    _check_mask_values(every, classes, where)
    return Found(
        name=name,
        task=_task(next(iter(parts.values()))),
        classes=classes,
        layout=f"arrays, images {layout}" + (", undivided" if pool is not None else ""),
        splits={split: sources[split] for split in SPLITS if split in sources},
        pool=pool,
        root=root,
        notes=tuple(dict.fromkeys(notes)),
    )


def _by_split(arrays: Mapping[str, object], where: str) -> tuple[dict[SplitName | None, Arrays], list[str]]:
    """Arrays by split (None: undivided) and kind, and unknown names."""
    parts: dict[SplitName | None, Arrays] = {}
    left_out = []
    for key, value in arrays.items():
        if key in CLASS_KEYS:
            continue
        split, kind = split_and_kind(key)
        if kind is None:
            left_out.append(key)
        elif kind in parts.setdefault(split, {}):
            raise DataError(
                f"`{kind}` of one split is given twice", where=f"{where}: {key}", do="leave one of them out"
            )
        else:
            parts[split][kind] = np.asarray(value)
    without = [split or "the set" for split, part in parts.items() if "images" not in part]
    if not parts or without or (None in parts and len(parts) > 1):
        raise DataError(
            "the arrays do not form a data set",
            where=where,
            got=", ".join(arrays) or "nothing",
            expected="images and labels, or x_train, y_train, x_test, y_test",
        )
    return parts, left_out


def split_and_kind(key: str) -> tuple[SplitName | None, str | None]:
    """Split and kind that an array's name denotes.

    >>> split_and_kind("x_train"), split_and_kind("val_images"), split_and_kind("labels")
    (('train', 'images'), ('val', 'images'), (None, 'labels'))
    """
    words = key.lower().split("_")
    if len(words) == 1:
        return None, KINDS.get(words[0])
    if len(words) == 2:
        for kind, split in (words, reversed(words)):
            if kind in KINDS and split in SPLIT_NAMES:
                return SPLIT_NAMES[split], KINDS[kind]
    return None, None


def layout_of(images: Array, where: str) -> str:
    """The order of axes: "[N, H, W]", "[N, H, W, C]" or "[N, C, H, W]"; ambiguous shapes are refused."""
    shape = images.shape
    problem = None
    if images.ndim == 3 and shape[2] not in CHANNELS:
        return "[N, H, W]"
    if images.ndim == 4:
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first != last:
            return "[N, C, H, W]" if first else "[N, H, W, C]"
        problem = "both axes could be the channels" if first else "no axis has 1 or 3 channels"
    if images.ndim == 2:
        problem = "flattened rows lack the shape of the images: reshape them to [N, H, W]"
    raise DataError(
        "the layout of the images is ambiguous",
        where=where,
        got=f"shape {list(shape)}" + (f": {problem}" if problem else ""),
        expected="[N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels",
        do="reshape or transpose the array to one of these layouts",
    )


def _channels_first(images: Array, layout: str) -> Array:
    if layout == "[N, H, W]":
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if layout == "[N, H, W, C]" else images


def _check_finite(part: Arrays, where: str) -> None:
    """Refuse images with NaN or infinity in them; the samples are named."""
    images, ids = part["images"], part.get("ids")
    if images.dtype.kind != "f" or images.size == 0 or np.isfinite([images.min(), images.max()]).all():
        return
    wrong = [i for i in range(len(images)) if not np.isfinite(images[i]).all()]
    if wrong:
        named = ids is not None and len(ids) == len(images)
        shown = ", ".join(f"{i} ({ids[i]})" if named and ids is not None else str(i) for i in wrong[:NUM_NAMED])
        raise DataError(
            f"{len(wrong):,} of {len(images):,} images contain NaN or infinity",
            where=f"{where}, samples {shown}" + (", …" if len(wrong) > NUM_NAMED else ""),
            expected="whole numbers 0 to 255, or fractions 0 to 1",
            do="fix or remove these samples: keep = np.isfinite(images).all(axis=(1, 2, 3))",
        )


def _bytes(images: Array, where: str, notes: list[str]) -> Bytes:
    """Pixel values as uint8: whole numbers 0 to 255 as they are, fractions 0 to 1 times 255."""
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.size == 0 or images.dtype.kind not in "iufb":
        raise DataError(
            "images are not numbers",
            where=where,
            got=f"{images.dtype} {list(images.shape)}",
            expected="uint8 or floating",
        )
    low, high = float(images.min()), float(images.max())
    whole = images.dtype.kind in "iub" or bool((images == np.floor(images)).all())
    if whole and low >= 0 and 1 < high <= 255:
        return np.ascontiguousarray(images.astype(np.uint8))
    if images.dtype.kind == "f" and low >= 0 and high <= 1 and not whole:
        notes.append("pixel values 0 to 1 were multiplied by 255 and rounded")
        return np.ascontiguousarray(np.rint(images * 255).astype(np.uint8))
    raise DataError(
        "pixel values are neither 0 to 255 nor 0 to 1",
        where=where,
        got=f"{images.dtype}, {low:g} to {high:g}",
        expected="whole numbers 0 to 255, or fractions 0 to 1",
        do="convert them to uint8 in 0 to 255",
    )


def _numbered_labels(
    parts: Mapping[SplitName | None, Arrays], given: Array | None, where: str
) -> tuple[tuple[str, ...], dict[SplitName | None, Arrays]]:
    """Class names, and the parts with labels as int64: names are numbered in natural order."""
    from opsin.data.readers.folders import natural_sort

    labels = {split: part["labels"] for split, part in parts.items() if "labels" in part}
    if labels and len(labels) < len(parts):
        raise DataError(
            "some splits have labels and some have none",
            where=where,
            got=", ".join(map(str, labels)),
            do="give all splits labels",
        )
    names = tuple(str(name) for name in given.tolist()) if given is not None else ()
    if labels and all(values.dtype.kind in "US" for values in labels.values()):
        texts = {split: values.astype(str) for split, values in labels.items()}
        names = names or natural_sort({str(name) for values in texts.values() for name in values})
        unknown = natural_sort({str(n) for values in texts.values() for n in values} - set(names))
        if unknown:
            raise DataError(
                "labels name classes that are not in `classes`",
                where=where,
                got=", ".join(unknown[:20]),
                do="add them to `classes`",
            )
        number = {name: k for k, name in enumerate(names)}
        numbered = {split: np.array([number[str(n)] for n in values], np.int64) for split, values in texts.items()}
    else:
        numbered = {split: whole_labels(values, where=where) for split, values in labels.items()}
        highest = max((int(values.max()) for values in numbered.values() if len(values)), default=-1)
        if not names:
            _check_highest(highest, sum(map(len, numbered.values())), where)
        names = names or tuple(str(k) for k in range(highest + 1))
    return names, {split: part | {"labels": numbered[split]} if labels else dict(part) for split, part in parts.items()}


def _check_highest(highest: int, num_samples: int, where: str) -> None:
    """Refuse a label that implies an absurd number of classes: a measurement, an identity, a damaged value."""
    allowed = max(num_samples, MAX_UNNAMED_CLASSES)
    if highest >= allowed:
        raise DataError(
            "a label is too large for a class index",
            where=where,
            got=f"{highest} in {num_samples:,} samples",
            expected=f"class numbers from 0 without gaps, below {allowed:,}",
            do="renumber the classes: labels = np.unique(labels, return_inverse=True)[1]; or correct this label",
        )


def _source(part: Arrays, split: str | None, layout: str, where: str, notes: list[str]) -> ArraySource:
    where = f"{where}, {split}" if split else where
    _check_finite(part, where)
    images = _bytes(_channels_first(part["images"], layout), where, notes)
    for kind, array in part.items():
        if len(array) != len(images):
            raise DataError(
                "arrays of one split have different lengths",
                where=where,
                got=f"{len(images)} images, {len(array)} {kind}",
                do="give one row for each image",
            )
    labels: Ints | None = part.get("labels")
    return ArraySource(
        images=images,
        ids=[str(name) for name in part["ids"]] if "ids" in part else numbered_ids(split or "sample", len(images)),
        labels=labels,
        boxes=_checked_boxes(part["boxes"], where) if "boxes" in part else None,
        masks=_checked_masks(part["masks"], images, where) if "masks" in part else None,
        tags=_checked_columns(part["tags"], np.uint8, where) if "tags" in part else None,
        numbers=_checked_columns(part["numbers"], np.float32, where) if "numbers" in part else None,
        groups=[str(group) for group in part["groups"]] if "groups" in part else None,
    )


def _checked_boxes(boxes: Array, where: str) -> NDArray[np.float32]:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise DataError("boxes have the wrong shape", where=where, got=list(boxes.shape), expected="[N, 4] xyxy")
    wrong = np.flatnonzero(~np.isfinite(boxes).all(1) | (boxes[:, 2:] <= boxes[:, :2]).any(1))
    if len(wrong):
        raise DataError(
            f"{len(wrong)} boxes are inverted, empty or not numbers",
            where=f"{where}, samples {wrong[:20].tolist()}",
            expected="x1 < x2 and y1 < y2, in pixels",
            do="if they are x, y, width, height, add the first two to the last two",
        )
    return boxes.astype(np.float32)


def _checked_masks(masks: Array, images: Bytes, where: str) -> Bytes:
    expected = (len(images), *images.shape[2:])
    if (
        masks.shape != expected
        or masks.dtype.kind not in "iub"
        or (masks.size and not 0 <= masks.min() <= masks.max() <= VOID)
    ):
        raise DataError(
            "masks do not match the images",
            where=where,
            got=f"{masks.dtype} {list(masks.shape)}",
            expected=f"whole numbers {list(expected)}, classes and {VOID} for void",
        )
    return masks.astype(np.uint8)


def _checked_columns(rows: Array, dtype: Any, where: str) -> Array:
    """One row of numbers per sample; [N] is treated as [N, 1]."""
    rows = rows[:, None] if rows.ndim == 1 else rows
    kept = rows.astype(dtype) if rows.dtype.kind in "iufb" else rows
    if rows.ndim != 2 or rows.dtype.kind not in "iufb" or (dtype == np.uint8 and not (kept == rows).all()):
        got, expected = f"{rows.dtype} {list(rows.shape)}", "numbers [N, K]" if dtype != np.uint8 else "0 or 1, [N, K]"
        raise DataError("targets are not one row per sample", where=where, got=got, expected=expected)
    return kept


def _column_names(sources: list[ArraySource]) -> tuple[str, ...]:
    """Generated names for columns of tags or numbers without names."""
    for kind, before in COLUMNS.items():
        widths = [source.targets[kind].shape[1] for source in sources if kind in source.targets]
        if widths:
            return tuple(f"{before}{k}" for k in range(max(widths)))
    return ()


def _task(part: Arrays) -> TaskName:
    return next((task for kind, task in TASKS.items() if kind in part), "classify")


def _mask_classes(sources: list[ArraySource], where: str) -> tuple[str, ...]:
    """Class names from the masks of a data set with neither labels nor names."""
    if all(len(source) == 0 for source in sources):
        raise DataError("there are no images", where=where, got="0 samples", expected="at least one")
    masks = [source.masks for source in sources if source.masks is not None]
    if not masks:
        raise DataError("there are no labels", where=where, expected="labels, or y_train and y_test")
    return tuple(str(k) for k in range(max(int(m[m != VOID].max(initial=0)) for m in masks) + 1))


def _check_mask_values(sources: list[ArraySource], classes: tuple[str, ...], where: str) -> None:
    """Refuse masks with classes outside `classes`: a network would have no output for them."""
    for source in sources:
        masks = np.zeros(0, np.uint8) if source.masks is None else source.masks
        wrong = np.unique(masks[(masks >= len(classes)) & (masks != VOID)])
        if len(wrong):
            raise DataError(
                "mask values without a class",
                where=where,
                got=", ".join(str(value) for value in wrong[:20]),
                expected=f"0 to {len(classes) - 1}, or {VOID} for void",
                do="list every class in `classes`, or make these pixels void",
            )
