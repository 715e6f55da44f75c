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
from typing import Any

import numpy as np

from opsin.data.readers.box_files import coco_folder
from opsin.data.readers.coco_masks import check_image_ids
from opsin.data.readers.folders import check_table_files, natural_sort, read_folder, table_splits, unlisted_note
from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.data.samples import Source
from opsin.data.sources import FileSource
from opsin.errors import AnnotationError, DataError
from opsin.io.files import sha256_file
from opsin.types import TaskName

TASK: TaskName = "multilabel"
LABEL_COLUMNS = ("label", "labels", "tags")
OTHER_COLUMNS = ("path", "split", "group")
DELIMITERS = (";", "|")


def is_asked(place: Place) -> bool:
    """Whether the user asks for tags: folders and COCO files serve other tasks too."""
    return place.task == TASK


def holds_tags(place: Place) -> bool:
    """Whether a table has several names in a value; any table is one of tags where the task is asked for."""
    return is_asked(place) or _column_and_delimiter(place)[1] is not None


def _column_and_delimiter(place: Place) -> tuple[str | None, str | None]:
    """The column of names, where all columns are known, and what stands between names, where there are several."""
    column = next((name for name in LABEL_COLUMNS if name in place.columns), None)
    if column is None or "path" not in place.columns or not set(place.columns) <= {column, *OTHER_COLUMNS}:
        return None, None
    return column, next((d for d in DELIMITERS if any(d in row[column] for row in place.rows)), None)


def read_tag_table(place: Place) -> Found:
    """A table of names, any number in each row.

    Raises:
        DataError: columns are missing or unknown, or no image has a class.
    """
    path, rows, asked = place.path, place.rows, is_asked(place)
    column, delimiter = _column_and_delimiter(place)
    if column is None:
        expected = f"path, one of {', '.join(LABEL_COLUMNS)}, and perhaps split, group"
        raise DataError(
            "required columns are missing, or there are unknown ones", where=path, got=place.columns, expected=expected
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


def read_tag_folder(place: Place) -> Found:
    """A set of class folders, with images in several folders merged."""
    found = read_folder(place)
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


def read_tag_coco(place: Place) -> Found:
    """The categories of the objects of each image of a COCO file.

    Raises:
        AnnotationError: it is no COCO file.
        DataError: its images are not there.
    """
    path, content = place.path, place.content
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
