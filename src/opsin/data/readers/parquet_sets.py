"""Parquet files with images as bytes: one, or a folder of them by split. Their images are written to the cache once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from opsin.data.readers.folders import natural_sort, split_of_file
from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.data.sources import FileSource
from opsin.errors import DataError, NameTakenError
from opsin.io.caches import default_cache
from opsin.io.files import atomic_folder, read_json, sha256_file, write_json
from opsin.io.parquet_files import read_stored_images
from opsin.io.walking import natural_key
from opsin.text import printable
from opsin.types import SPLITS, SplitName, TaskName

TASK: TaskName = "classify"
LABELS = "labels.json"
Sample = tuple[Path, str, str]
"""Image, id and class of one sample."""


def holds_parquet(place: Place) -> bool:
    """Whether a folder holds Parquet files, at once or in `data/`, as Hugging Face's data sets do."""
    return bool(_files(place.path))


def _files(folder: Path) -> list[Path]:
    found = [*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]
    return sorted(found, key=lambda path: natural_key(path.name))


def read_parquet(place: Place) -> Found:
    """The images of one Parquet file, or of those of a folder; a file whose name begins with a split's belongs to it.

    Raises:
        DataError: files with and without a split.
        AnnotationError: pyarrow is missing, or a file is damaged or without images and labels.
        WriteError: the cache cannot be written.
    """
    files = _files(place.path) if place.path.is_dir() else [place.path]
    splits = [split_of_file(file) if place.path.is_dir() else None for file in files]
    if None in splits and len(set(splits)) > 1:
        lone = ", ".join(printable(file.name) for file, split in zip(files, splits, strict=True) if split is None)
        raise DataError("files with a split stand beside others without one", where=place.path, got=lone)
    parts: dict[SplitName | None, list[Sample]] = {}
    for file, split in zip(files, splits, strict=True):
        parts.setdefault(split, []).extend(_samples(file))
    classes = natural_sort({label for samples in parts.values() for _, _, label in samples})
    number = {name: k for k, name in enumerate(classes)}
    sources = {
        split: FileSource(
            paths=[path for path, _, _ in samples],
            ids=[name for _, name, _ in samples],
            labels=np.array([number[label] for _, _, label in samples], np.int64),
        )
        for split, samples in parts.items()
    }
    pool = sources.pop(None, None)
    return Found(
        name=place.path.resolve().stem,
        task=TASK,
        classes=classes,
        layout=f"Parquet, {len(files)} files with images" + (", undivided" if pool is not None else ""),
        splits={split: sources[split] for split in SPLITS if split in sources},
        pool=pool,
        root=place.path,
        notes=("the images were written to the cache",),
    )


def _samples(file: Path) -> list[Sample]:
    """The samples of one file; its images lie in the cache, under the hash of the file."""
    folder = default_cache() / "unpacked" / sha256_file(file)[:32] / (file.stem or "images")
    if not (folder / LABELS).is_file():
        with suppress(NameTakenError), atomic_folder(folder) as new:  # another process may have written the same
            labels = []
            for row, stored in enumerate(read_stored_images(file)):
                (new / f"{row:07}.image").write_bytes(stored.data)
                labels.append(stored.label)
            write_json(new / LABELS, labels)
    labels = [str(label) for label in read_json(folder / LABELS)]
    return [(folder / f"{row:07}.image", f"{file.stem}/{row:07}", label) for row, label in enumerate(labels)]
