"""WebDataset: tars, or a folder of them, in which the files of one sample share a name: `000017.jpg`, `000017.cls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from opsin.data.readers.folders import natural_sort, split_of_file
from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.data.samples import Source
from opsin.data.sources import FileSource
from opsin.data.transport import unpacked
from opsin.errors import AnnotationError, DataError
from opsin.io.images import IMAGE_SUFFIXES
from opsin.io.tables import read_lines
from opsin.io.walking import natural_key, walk_files
from opsin.text import printable
from opsin.types import SPLITS, SplitName, TaskName

TASK: TaskName = "classify"
CLASS_SUFFIX = ".cls"
NUM_NAMED = 10
Sample = tuple[Path, str, str]
"""Image, id and class of one sample."""


def holds_samples(place: Place) -> bool:
    """Whether a folder holds files of classes beside images, or shards."""
    return any(place.path.glob(f"*{CLASS_SUFFIX}")) or bool(_shards(place.path))


def _shards(folder: Path) -> list[Path]:
    """The tars of a folder that holds nothing but tars and lists."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    tars = [path for path in files if path.suffix == ".tar"]
    return sorted(tars, key=lambda path: natural_key(path.name)) if all(path.is_file() for path in files) else []


def read_webdataset(place: Place) -> Found:
    """The samples of a folder, or of its shards; a shard whose name begins with a split's belongs to that split.

    Raises:
        DataError: an image without a class, or a class without an image; shards with and without a split.
        AnnotationError: a file of a class is no text.
        ArchiveError: a shard is damaged.
    """
    shards = _shards(place.path)
    parts: dict[SplitName | None, list[Sample]] = {}
    for shard in shards:
        parts.setdefault(split_of_file(shard), []).extend(_samples(unpacked(shard)[0], f"{shard.stem}/"))
    if not shards:
        parts[None] = _samples(place.path, "")
    if None in parts and len(parts) > 1:
        got = ", ".join(shard.name for shard in shards if split_of_file(shard) is None)
        raise DataError("shards with a split stand beside others without one", where=place.path, got=got)
    numbered = natural_sort({label for samples in parts.values() for _, _, label in samples})
    sources = {split: _source(samples, numbered) for split, samples in parts.items()}
    classes = _names(place.path, numbered)
    pool = sources.pop(None, None)
    return Found(
        name=place.path.resolve().name,
        task=TASK,
        classes=classes,
        layout="WebDataset" + (f" in {len(shards)} shards" if shards else "") + (", undivided" if pool else ""),
        splits={split: sources[split] for split in SPLITS if split in sources},
        pool=pool,
        root=place.path,
    )


def _samples(folder: Path, prefix: str) -> list[Sample]:
    """The samples of one folder, in natural order."""
    files = walk_files(folder)
    labels = {path.with_suffix(""): path for path in files if path.suffix == CLASS_SUFFIX}
    photos = {path.with_suffix(""): path for path in files if path.suffix.lower() in IMAGE_SUFFIXES}
    lone = sorted(path.name for path in labels.keys() ^ photos.keys())
    if lone or not photos:
        raise DataError(
            f"{len(lone)} samples have no image or no class" if lone else "there are no samples",
            where=f"{printable(folder)}: {', '.join(map(printable, lone[:NUM_NAMED]))}",
            expected=f"for each KEY an image and KEY{CLASS_SUFFIX}",
        )
    return [(photo, prefix + photo.name, _label(labels[key])) for key, photo in photos.items()]


def _label(file: Path) -> str:
    lines = read_lines(file)
    if len(lines) != 1:
        raise AnnotationError("a file of a class is not one line", where=printable(file), got=f"{len(lines)} lines")
    return lines[0]


def _source(samples: Sequence[Sample], numbered: Sequence[str]) -> Source:
    number: Mapping[str, int] = {label: k for k, label in enumerate(numbered)}
    return FileSource(
        paths=[photo for photo, _, _ in samples],
        ids=[name for _, name, _ in samples],
        labels=np.array([number[label] for _, _, label in samples], np.int64),
    )


def _names(folder: Path, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes: those of `classes.txt`, where labels are the numbers of its lines; else the labels."""
    listed = folder / "classes.txt"
    if not listed.is_file() or not all(label.isascii() and label.isdigit() for label in labels):
        return labels
    names = read_lines(listed)
    if max(map(int, labels)) >= len(names):
        expected = f"a line for each class up to {labels[-1]}"
        raise AnnotationError("classes.txt names too few classes", where=listed, got=len(names), expected=expected)
    return tuple(names[int(label)] for label in labels)
