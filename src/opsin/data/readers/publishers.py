"""Readers of the catalogue's sets, each in its publisher's own layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from opsin.config import DataConfig
from opsin.data.catalogue import ENTRIES, Entry
from opsin.data.readers.found import Found
from opsin.data.readers.mask_files import PUBLISHED
from opsin.data.readers.place import Place
from opsin.data.samples import Bytes, Ints, Source, numbered_ids
from opsin.data.sources import ArraySource
from opsin.errors import ConfigError, DataError, nearest
from opsin.io.arrays import read_cifar, read_idx
from opsin.types import SplitName


def read_entry(entry: Entry, folder: Path | None, config: DataConfig) -> Found:
    """A catalogue set from its folder, at the label level of `config`.

    Raises:
        ConfigError: the set has no such label level.
        DataError: files are missing or inconsistent.
        ArrayError: a file is damaged.
    """
    level = _checked_level(entry, config.label_level)
    if entry.name in PUBLISHED:
        return PUBLISHED[entry.name](folder, config, name=entry.name, published=True)
    sources = READERS[entry.name](folder or Path(), level)
    return Found(
        name=entry.name,
        task=entry.task,
        classes=entry.classes_of(level),
        layout=entry.layout + (f", {level} labels" if level else ""),
        published=True,
        root=folder,
        description=entry.description,
        **sources,
    )


def _checked_level(entry: Entry, level: str | None) -> str | None:
    if level is None:
        return entry.levels[0] if entry.levels else None
    if level not in entry.levels:
        raise ConfigError(
            f"`{entry.name}` has no such label level",
            where="setting `label_level`",
            got=level,
            expected=" or ".join(entry.levels) or "none: the set has one level of labels",
            do=f"did you mean `{close}`?" if (close := nearest(level, entry.levels)) else "leave it out",
        )
    return level


def _read_digits(folder: Path, level: str | None) -> dict[str, Any]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    return {"pool": ArraySource(images=images, labels=labels, ids=numbered_ids("digits", len(labels)))}


def _read_idx_set(folder: Path, level: str | None) -> dict[str, Any]:
    names: dict[SplitName, str] = {"train": "train", "test": "t10k"}
    return {"splits": {split: _read_idx_split(folder, prefix, split) for split, prefix in names.items()}}


def _read_idx_split(folder: Path, prefix: str, split: SplitName) -> Source:
    images = read_idx(_plain_or_gzipped(folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_plain_or_gzipped(folder, f"{prefix}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(
            "images and labels differ in number or shape",
            where=folder / f"{prefix}-*",
            got=f"images {images.shape}, labels {labels.shape}",
            expected="images [N, H, W], labels [N]",
            do="fetch the files again",
        )
    return _array_split(images[:, None], labels.astype(np.int64), split)


def _plain_or_gzipped(folder: Path, name: str) -> Path:
    """The file under its plain name, as `.gz`, or with the dot of some copies (`images.idx3-ubyte`)."""
    dotted = name.replace("-idx", ".idx")
    candidates = [folder / candidate for candidate in (name, f"{name}.gz", dotted, f"{dotted}.gz")]
    return _first_file(candidates)


def _read_cifar10(folder: Path, level: str | None) -> dict[str, Any]:
    _refuse_pickles(folder, "cifar-10-binary.tar.gz")
    batches = [_first_file([folder / f"data_batch_{n}.bin"]) for n in range(1, 6)]
    test = _first_file([folder / "test_batch.bin"])
    return {"splits": {"train": _cifar_split(batches, 0, 1, "train"), "test": _cifar_split([test], 0, 1, "test")}}


def _read_cifar100(folder: Path, level: str | None) -> dict[str, Any]:
    _refuse_pickles(folder, "cifar-100-binary.tar.gz")
    column = 0 if level == "coarse" else 1
    return {
        "splits": {
            "train": _cifar_split([_first_file([folder / "train.bin"])], column, 2, "train"),
            "test": _cifar_split([_first_file([folder / "test.bin"])], column, 2, "test"),
        }
    }


def _cifar_split(paths: list[Path], column: int, num_label_bytes: int, split: SplitName) -> Source:
    parts = [read_cifar(path, num_label_bytes=num_label_bytes) for path in paths]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels[:, column] for _, labels in parts])
    return _array_split(images, labels.astype(np.int64), split)


def _refuse_pickles(folder: Path, archive: str) -> None:
    """Refuse the Python release of CIFAR, which consists of pickles, and name the binary one."""
    pickled = [name for name in ("data_batch_1", "train", "test_batch", "test") if (folder / name).is_file()]
    if pickled and not list(folder.glob("*.bin")):
        raise DataError(
            "this is CIFAR's Python release, whose files are pickles: loading one can run arbitrary code",
            where=folder / pickled[0],
            expected="the binary release, files that end in .bin",
            do=f"fetch {archive} instead (`opsin data fetch`)",
        )


def _first_file(candidates: list[Path]) -> Path:
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(
        "a file of the data set is missing",
        where=candidates[0].parent,
        expected=" or ".join(path.name for path in candidates),
        do="fetch the set again (`opsin data fetch`), or correct --root",
    )


def _array_split(images: Bytes, labels: Ints, split: SplitName) -> Source:
    return ArraySource(images=images, labels=labels, ids=numbered_ids(split, len(labels)))


def _read_flowers(folder: Path, level: str | None) -> dict[str, Any]:
    from opsin.data.readers.folders import read_pool

    return {"pool": read_pool(folder)}


READERS: dict[str, Callable[[Path, str | None], dict[str, Any]]] = {
    "digits": _read_digits,
    "mnist": _read_idx_set,
    "fashion-mnist": _read_idx_set,
    "cifar10": _read_cifar10,
    "cifar100": _read_cifar100,
    "flowers": _read_flowers,
}


def is_idx(place: Place) -> bool:
    """Whether a folder holds MNIST's files."""
    return any(place.path.glob("train-images[-.]idx3-ubyte*"))


def read_idx_place(place: Place) -> Found:
    """A folder of files in MNIST's layout; classes are the numbers of the labels.

    Raises:
        DataError: a file is missing, or images and labels do not fit together.
        ArrayError: a file is damaged.
    """
    splits: dict[SplitName, Source] = _read_idx_set(place.path, None)["splits"]
    highest = max(int(source.labels.max(initial=0)) for source in splits.values() if source.labels is not None)
    return _own_copy(place, splits, tuple(str(k) for k in range(highest + 1)), "IDX files")


def is_cifar(place: Place) -> bool:
    """Whether a folder holds the binary release of CIFAR-10 or CIFAR-100."""
    return _cifar_entry(place) is not None


def _cifar_entry(place: Place) -> Entry | None:
    """CIFAR-10 or CIFAR-100, by the names of the files."""
    firsts = {"cifar10": "data_batch_1.bin", "cifar100": "train.bin"}
    return next((ENTRIES[name] for name, file in firsts.items() if (place.path / file).is_file()), None)


def read_cifar_place(place: Place) -> Found:
    """A folder with the binary release of CIFAR.

    Raises:
        DataError: a file is missing.
        ArrayError: a file is damaged.
    """
    entry = _cifar_entry(place) or ENTRIES["cifar10"]
    splits: dict[SplitName, Source] = READERS[entry.name](place.path, "fine")["splits"]
    return _own_copy(place, splits, entry.classes, f"CIFAR's binary files ({entry.name})")


def _own_copy(place: Place, splits: dict[SplitName, Source], classes: tuple[str, ...], layout: str) -> Found:
    name = place.path.resolve().name
    return Found(name=name, task="classify", classes=classes, layout=layout, splits=splits, root=place.path)
