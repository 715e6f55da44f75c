"""Data sets of arrays from files: an `.npz`, and the courses' folder of `.npy`; and their boxes, brought to pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from opsin.arrays import Array
from opsin.config import DataConfig
from opsin.data.quality.box_checks import checked_boxes, in_pixels
from opsin.data.readers.arrays import layout_of, read_arrays, split_and_kind
from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.errors import DataError
from opsin.io.arrays import read_npy, read_npz

ARRAY_KINDS = ("images", "labels", "boxes")


def read_npz_place(place: Place) -> Found:
    """The arrays of an `.npz` file.

    Raises:
        DataError: they are no data set.
        ArrayError: the file is damaged.
    """
    return read_mapping(
        read_npz(place.path), place.config, name=place.path.stem, where=str(place.path), root=place.path
    )


def read_mapping(
    arrays: Mapping[str, Any], config: DataConfig, *, name: str, where: str, root: Path | None = None
) -> Found:
    """A data set of arrays by name, its boxes in pixels.

    Raises:
        DataError: names, shapes or values that do not go together.
    """
    checked, notes = with_pixel_boxes(arrays, config, where)
    found = read_arrays(checked, name=name, where=where, root=root)
    return replace(found, notes=(*found.notes, *notes))


def with_pixel_boxes(arrays: Mapping[str, Any], config: DataConfig, where: str) -> tuple[dict[str, Any], list[str]]:
    """Arrays with their boxes in pixels, checked against the sizes of their images, and what was found out of them."""
    found, notes = dict(arrays), []
    for key, value in arrays.items():
        split, kind = split_and_kind(key)
        if kind != "boxes":
            continue
        images = next((np.asarray(v) for k, v in arrays.items() if split_and_kind(k) == (split, "images")), None)
        if images is None or len(images) != len(value):
            continue  # `read_arrays` says what is wrong
        height, width = images.shape[2:] if layout_of(images, where) == "[N, C, H, W]" else images.shape[1:3]
        sizes = np.tile(np.array([height, width]), (len(images), 1))
        ids = [f"{split or 'sample'}/{i}" for i in range(len(images))]
        boxes, unit = in_pixels(np.asarray(value), sizes, config.box_units, where=f"{where}, {key}")
        found[key], clipped = checked_boxes(boxes, sizes, ids, clip=config.clip_boxes, where=f"{where}, {key}")
        notes += [f"{key}: {unit}", *clipped]
    return found, notes


def is_array_folder(place: Place) -> bool:
    """Whether a folder is the courses' folder of arrays."""
    return (place.path / "training_images.npy").is_file()


def read_array_folder(place: Place) -> Found:
    """The courses' folder of arrays.

    Raises:
        DataError: an array is missing, or boxes do not fit their images.
    """
    folder, config = place.path, place.config
    files = {
        f"{split}_{kind}": folder / f"{split}_{kind}.npy"
        for split in ("training", "validation", "test")
        for kind in ARRAY_KINDS
    }
    arrays: dict[str, Any] = {key: read_npy(file) for key, file in files.items() if file.is_file()}
    missing = [
        file.name for key, file in files.items() if key not in arrays and f"{key.split('_')[0]}_images" in arrays
    ]
    if missing:
        raise DataError("arrays of a split are missing", where=folder, expected=", ".join(missing))
    notes = []
    for key in [key for key in arrays if key.endswith("_labels")]:
        arrays[key], one_hot = _numbers(arrays[key])
        notes += [f"{key}: one-hot rows were read as class numbers"] if one_hot else []
    arrays, box_notes = with_pixel_boxes(arrays, config, str(folder))
    found = read_arrays(arrays, name=folder.resolve().name, where=str(folder), root=folder)
    layout = f"folder of {', '.join(f'{key}.npy' for key in arrays)}"
    return replace(found, layout=layout, notes=(*found.notes, *notes, *box_notes))


def _numbers(labels: Array) -> tuple[Array, bool]:
    """Class numbers, and whether they were one-hot rows: exactly one 1 in each, else 0."""
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "iufb":
        return labels, False
    whole = ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
    return (labels.argmax(axis=1), True) if whole else (labels, False)
