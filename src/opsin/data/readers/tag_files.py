"""Readers of multi-label data sets: any number of classes per image.

| layout | recognized by |
|---|---|
| a CSV | columns `path` and `label` (or `labels`, `tags`), of which some value has `;` or `|` between names |
| folders of tags | class folders, when the task is requested: an image in several folders has all their classes |
| COCO | a `.json`, when the task is requested: the categories of an image's objects |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from opsin.data.readers.box_files import coco_folder
from opsin.data.readers.coco_masks import check_image_ids
from opsin.data.readers.folders import check_table_files, natural_sort, read_folder, table_splits, unlisted_note
from opsin.data.readers.found import Found
from opsin.data.samples import FileSource, Source
from opsin.errors import AnnotationError, DataError
from opsin.io.files import read_json, sha256_file
from opsin.io.tables import read_table
from opsin.types import TaskName

TASK: TaskName = "multilabel"
LABEL_COLUMNS = ("label", "labels", "tags")
OTHER_COLUMNS = ("path", "split", "group")
DELIMITERS = (";", "|")


def read_tags(path: Path, task: str | None) -> Found | None:
    """The set at `path`, or None if it has no tags, or `task` is another one.

    Raises:
        DataError: the layout is known, but its content is invalid.
    """
    if task not in (None, TASK):
        return None
    if path.suffix.lower() == ".csv" and path.is_file():
        return _read_table(path, asked=task is not None)
    if task is None:
        return None
    if path.is_dir():
        return _merged(read_folder(path))
    return _read_coco(path) if path.suffix.lower() == ".json" else None


def _read_table(path: Path, *, asked: bool) -> Found | None:
    rows = read_table(path)
    column = next((name for name in LABEL_COLUMNS if name in rows[0]), None)
    known = column is not None and "path" in rows[0] and set(rows[0]) <= {column, *OTHER_COLUMNS}
    delimiter = next((d for d in DELIMITERS if known and any(d in row[str(column)] for row in rows)), None)
    if not asked and (delimiter is None or not known):
        return None
    if column is None or not known:
        expected = f"path, one of {', '.join(LABEL_COLUMNS)}, and perhaps split, group"
        raise DataError(
            "required columns are missing, or there are unknown ones", where=path, got=list(rows[0]), expected=expected
        )
    names = [_names(row[column], delimiter or DELIMITERS[0]) for row in rows]
    classes = natural_sort({name for several in names for name in several})
    source = FileSource(
        paths=[path.parent / row["path"].strip() for row in rows],
        ids=[row["path"].strip() for row in rows],
        tags=_rows(names, classes, path),
        groups=[row["group"].strip() for row in rows] if "group" in rows[0] else None,
    )
    check_table_files(source, path)
    divided = "split" in rows[0]
    split_by = f"split at `{delimiter}`" if delimiter else "one name each"
    notes = (f"`{column}` names several classes, {split_by}; `--task classify` treats each text as one class",)
    return Found(
        name=path.stem,
        task=TASK,
        classes=classes,
        layout=f"table of {len(rows)} paths with any number of classes" + (", with splits" if divided else ""),
        splits=table_splits(source, [row["split"] for row in rows], path) if divided else {},
        pool=None if divided else source,
        root=path,
        notes=() if asked else notes,
    )


def _names(text: str, delimiter: str) -> tuple[str, ...]:
    """Names between delimiters; none in an empty text."""
    return tuple(name.strip() for name in text.split(delimiter) if name.strip())


def _rows(names: Sequence[Sequence[str]], classes: Sequence[str], where: object) -> np.ndarray:
    """Tags uint8 [N, K] of the names of each sample."""
    if not classes:
        raise DataError("no image has a class", where=where, expected="names of classes", do="fill the label column")
    number = {name: k for k, name in enumerate(classes)}
    tags = np.zeros((len(names), len(classes)), np.uint8)
    for i, several in enumerate(names):
        tags[i, [number[name] for name in several]] = 1
    return tags


def _merged(found: Found) -> Found:
    """A data set of class folders, with images in several folders merged."""
    pool = None if found.pool is None else _taken_once(found.pool, len(found.classes))
    splits = {name: _taken_once(source, len(found.classes)) for name, source in found.splits.items()}
    before = sum(map(len, filter(None, [found.pool, *found.splits.values()])))
    after = sum(map(len, filter(None, [pool, *splits.values()])))
    note = f"{before:,} files are {after:,} images: files with the same name and content in several folders are merged"
    layout = found.layout.replace("class folders", "folders of tags")
    return replace(found, task=TASK, pool=pool, splits=splits, layout=layout, notes=(*found.notes, note))


def _taken_once(source: Source, num_classes: int) -> FileSource:
    """One sample for each name and content, with the classes of all its files."""
    assert isinstance(source, FileSource)
    assert source.labels is not None
    rows: dict[tuple[str, str], int] = {}
    of = [rows.setdefault((path.name, sha256_file(path)), len(rows)) for path in source.paths]
    first = np.unique(of, return_index=True)[1]
    tags = np.zeros((len(rows), num_classes), np.uint8)
    tags[of, source.labels] = 1
    return replace(source.take(first), labels=None, tags=tags)


def _read_coco(path: Path) -> Found:
    content = read_json(path)
    try:
        categories = {c["id"]: str(c["name"]) for c in content["categories"]}
        check_image_ids(content["images"], path)
        files: Mapping[Any, str] = {image["id"]: str(image["file_name"]) for image in content["images"]}
        names: dict[Any, list[str]] = {key: [] for key in files}
        for annotation in content["annotations"]:
            if annotation["image_id"] in names:
                names[annotation["image_id"]].append(categories[annotation["category_id"]])
    except (KeyError, TypeError, AttributeError) as error:
        expected = "images, annotations with image_id and category_id, categories"
        raise AnnotationError(
            "this is not a COCO annotation", where=path, got=repr(error), expected=expected
        ) from error
    folder = coco_folder(path, list(files.values()))
    classes = natural_sort({name for several in names.values() for name in several})
    source = FileSource(
        paths=[folder / file for file in files.values()],
        ids=list(files.values()),
        tags=_rows(list(names.values()), classes, path),
    )
    check_table_files(source, path)
    notes = unlisted_note(source.paths)
    unused = sorted(set(categories.values()) - set(classes))
    notes += [f"categories without an object were ignored: {', '.join(unused)}"] if unused else []
    layout = f"COCO, {len(source)} images with the categories of their objects"
    return Found(name=path.stem, task=TASK, classes=classes, layout=layout, pool=source, root=path, notes=tuple(notes))
