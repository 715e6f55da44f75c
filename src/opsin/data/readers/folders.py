"""Readers of a user's own photos: class folders, and a CSV of paths and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from posixpath import splitext

import numpy as np

from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.data.samples import Source
from opsin.data.sources import FileSource
from opsin.errors import DataError, nearest
from opsin.io.foreign import CONVERT_ALL, FOREIGN_SUFFIXES
from opsin.io.images import IMAGE_SUFFIXES
from opsin.io.walking import PathsBelow, natural_key, walk
from opsin.types import SPLITS, SplitName

SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Accepted names of the splits in folders and tables."""
COLUMNS = ("path", "label", "split", "group")
NUM_NAMED = 20

HIDDEN = (".", "__MACOSX")
SUFFIXES = tuple(IMAGE_SUFFIXES)


def natural_sort(names: Sequence[str] | set[str]) -> tuple[str, ...]:
    """Names once each, numbers in them by value.

    >>> natural_sort(["10", "2", "a", "2"])
    ('2', '10', 'a')
    """
    return tuple(sorted(set(names), key=natural_key))


def split_of_file(path: Path) -> SplitName | None:
    """The split that a file is of, by the first word of its name; None if it names none.

    >>> [split_of_file(Path(name)) for name in ("train-00000-of-00001.parquet", "validation.tar", "photos.tar")]
    ['train', 'val', None]
    """
    return SPLIT_NAMES.get(path.stem.replace("_", "-").split("-")[0].lower())


def read_folder(place: Place) -> Found:
    """Class folders, either directly or inside train/val/test folders.

    Raises:
        DataError: no class folders, no images, or folders that cannot be distinguished.
        InputError: a link leads out of the folder.
    """
    root, left_out = place.path, list[str]()
    images, others = _divided(walk(root, left_out.append)[0])
    folders = _split_folders(root, images)
    notes = [*left_out, *_left_out_notes(others, images, depth=2 if folders else 1)]
    if not folders:
        classes = _class_names(root)
        pool = _class_source(root, "", images, classes)
        return Found(
            name=root.resolve().name,
            task="classify",
            classes=classes,
            layout=f"class folders, undivided: {len(pool)} images in {len(classes)} classes",
            pool=pool,
            root=root,
            notes=tuple(notes),
        )
    classes = natural_sort({name for folder in folders.values() for name in _class_names(folder)})
    return Found(
        name=root.resolve().name,
        task="classify",
        classes=classes,
        layout=f"class folders in {', '.join(folder.name for folder in folders.values())}",
        splits={split: _class_source(root, folder.name, images, classes) for split, folder in folders.items()},
        root=root,
        notes=tuple(notes),
    )


def read_pool(root: Path) -> Source:
    """All images of the class folders of `root`, undivided, in natural order.

    Raises:
        DataError: no class folders, or no images in them.
    """
    images, _ = _divided(walk(root, _ignore)[0])
    return _class_source(root, "", images, _class_names(root))


def _ignore(line: str) -> None:
    """A published data set may contain other files too."""


def _divided(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images that are not hidden, and the other files."""
    images, others = list[str](), list[str]()
    for name in names:
        (images if _is_image(name) and not _hidden(name) else others).append(name)
    return images, others


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _hidden(name: str) -> bool:
    """Whether a file, or a folder in which it lies, is one that a program hides or leaves behind."""
    return name.startswith(HIDDEN) or "/." in name or "/__MACOSX" in name


def _split_folders(root: Path, images: Sequence[str]) -> dict[SplitName, Path]:
    """The folders that are splits, in the order train, val, test; empty when `root` contains class folders directly."""
    found: dict[SplitName, Path] = {}
    others: list[str] = []
    with_images = {folder for folder, inside, _ in (name.partition("/") for name in images) if inside}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            others += [folder.name] if folder.name in with_images else []
        elif split in found:
            raise DataError(
                f"two folders name the split `{split}`",
                where=root,
                got=f"{found[split].name}, {folder.name}",
                expected="one of them",
            )
        else:
            found[split] = folder
    if found and others:
        raise DataError(
            "split folders are next to other folders with images",
            where=root,
            got=f"splits {', '.join(f.name for f in found.values())}; others {', '.join(others[:NUM_NAMED])}",
            expected="only train/val/test folders, or only class folders",
            do="move or rename the folders",
        )
    return {split: found[split] for split in SPLITS if split in found}


def _class_names(folder: Path) -> tuple[str, ...]:
    names = [path.name for path in folder.iterdir() if path.is_dir() and not _hidden(path.name)]
    if not names:
        raise DataError(
            "there are no class folders",
            where=folder,
            expected="one folder for each class, with its images",
            do="sort the images into folders, or list them in a CSV with the columns path,label",
        )
    return natural_sort(names)


def _class_source(root: Path, folder: str, images: Sequence[str], classes: Sequence[str]) -> Source:
    """Those of the images below `root` that lie in class folders of its `folder`, "" for itself, class by class."""
    number = {name: k for k, name in enumerate(classes)}
    start = f"{folder}/" if folder else ""
    names = [name for name in images if name.startswith(start) and "/" in name[len(start) :]]
    if not names:
        raise DataError(
            "there are no images in the class folders",
            where=root / folder,
            expected=f"files that end in {', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    labels = np.array([number[name[len(start) :].partition("/")[0]] for name in names], np.int64)
    order = np.argsort(labels, kind="stable")
    names = [names[i] for i in order.tolist()]
    return FileSource(paths=PathsBelow(root, names), ids=names, labels=labels[order])


def _left_out_notes(others: Sequence[str], images: Sequence[str], depth: int) -> list[str]:
    """Notes on files that were ignored: `others` than images, and images too few folders deep."""
    suffixes = Counter(splitext(name)[1].lower() or "no suffix" for name in others)
    loose = sum(name.count("/") < depth for name in images)
    notes = []
    if suffixes:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
        notes.append(f"{sum(suffixes.values())} files that are not images of a known format were ignored: {kinds}")
    foreign = sum(count for suffix, count in suffixes.items() if suffix in FOREIGN_SUFFIXES)
    if foreign:
        kinds = ", ".join(suffix for suffix in suffixes if suffix in FOREIGN_SUFFIXES)
        notes.append(f"{foreign} of them are pictures in unsupported formats ({kinds}): {CONVERT_ALL}")
    if loose:
        notes.append(f"{loose} images outside of any class folder were ignored")
    return notes


def unlisted_note(listed: Iterable[Path]) -> list[str]:
    """A note on the number of images next to the `listed` ones that are not annotated; none if there are none."""
    known = {path.parent.resolve() / path.name for path in listed}
    folders = {path.parent for path in known if path.is_file()}
    beside = [file for folder in folders for file in folder.iterdir() if file not in known and file.is_file()]
    unlisted = sum(file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") for file in beside)
    return (
        [f"{unlisted} images in the same folders that these annotations do not list were ignored"] if unlisted else []
    )


def read_csv(place: Place) -> Found:
    """A table with the columns path,label and perhaps split and group; paths are relative to the table.

    Raises:
        DataError: a column, label or file is missing, a split is unknown, or a group is in two splits.
    """
    path, rows = place.path, place.rows
    _check_columns(rows, path)
    classes = natural_sort({row["label"].strip() for row in rows})
    number = {name: k for k, name in enumerate(classes)}
    source = FileSource(
        paths=[path.parent / row["path"].strip() for row in rows],
        ids=[row["path"].strip() for row in rows],
        labels=np.array([number[row["label"].strip()] for row in rows], np.int64),
        groups=[row["group"].strip() for row in rows] if "group" in rows[0] else None,
    )
    check_table_files(source, path)
    divided = "split" in rows[0]
    return Found(
        name=path.stem,
        task="classify",
        classes=classes,
        layout=f"table of {len(rows)} paths and labels" + (", with splits" if divided else ", undivided"),
        splits=table_splits(source, [row["split"] for row in rows], path) if divided else {},
        pool=None if divided else source,
        root=path,
    )


def _rename_or_remove(missing: Sequence[str], unknown: Sequence[str]) -> str:
    if missing:
        return f"name the columns in the first line; {', '.join(missing)} is missing"
    return f"remove {', '.join(unknown[:NUM_NAMED])}: these columns are not used"


def _check_columns(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    columns = list(rows[0])
    missing = [name for name in ("path", "label") if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing or unknown:
        close = nearest(unknown[0], COLUMNS) if unknown else None
        raise DataError(
            "required columns are missing" if missing else "the table has unknown columns",
            where=path,
            got=", ".join(columns),
            expected="path,label and perhaps split,group",
            do=f"did you mean `{close}` by `{unknown[0]}`?" if close else _rename_or_remove(missing, unknown),
        )
    check_blank(rows, path)


def check_blank(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Refuse a table with a value missing in a row.

    Raises:
        DataError: the column and its lines are named.
    """
    for name in rows[0]:
        blank = [i + 2 for i, row in enumerate(rows) if not row[name].strip()]
        if blank:
            raise DataError(
                f"{len(blank)} rows have no {name}",
                where=f"{path}, lines {', '.join(map(str, blank[:NUM_NAMED]))}",
                expected=f"a {name} in each row, or no such column",
            )


def check_table_files(source: FileSource, path: Path) -> None:
    missing = [name for name, file in zip(source.ids, source.paths, strict=True) if not file.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(source)} files of the table were not found",
            where=f"{path}: {', '.join(missing[:NUM_NAMED])}",
            expected=f"paths relative to {path.parent.absolute()}",
        )
    repeated = [name for name, count in Counter(source.ids).items() if count > 1]
    if repeated:
        raise DataError(
            f"{len(repeated)} files are in the table more than once",
            where=f"{path}: {', '.join(repeated[:NUM_NAMED])}",
            expected="each file once",
        )


def table_splits(source: Source, names: Sequence[str], path: Path) -> dict[SplitName, Source]:
    unknown = natural_sort({name for name in names if name.strip().lower() not in SPLIT_NAMES})
    if unknown:
        raise DataError(
            "the table names unknown splits",
            where=path,
            got=", ".join(unknown[:NUM_NAMED]),
            expected=", ".join(SPLIT_NAMES),
        )
    splits = np.array([SPLIT_NAMES[name.strip().lower()] for name in names])
    parts = {split: source.take(np.flatnonzero(splits == split)) for split in SPLITS if (splits == split).any()}
    check_groups(parts, where=path)
    return parts


def check_groups(splits: Mapping[SplitName, Source], *, where: object) -> None:
    """Refuse a group that is in two splits.

    Raises:
        DataError: there are such groups; they are named.
    """
    seen = Counter(group for source in splits.values() for group in set(source.groups or ()))
    shared = natural_sort({group for group, count in seen.items() if count > 1})
    if shared:
        raise DataError(
            f"{len(shared)} groups are in more than one split, so scores would be too high",
            where=f"{where}: {', '.join(shared[:NUM_NAMED])}",
            expected="each group in one split",
            do="correct the column `split`, or leave it out: splits are then drawn by whole groups",
        )
