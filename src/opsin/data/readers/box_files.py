"""Readers of data sets with one object and its box in each image.

| layout | boxes | splits |
|---|---|---|
| folder of `training_images.npy`, `training_labels.npy`, `training_boxes.npy`, `validation_…` | pixels, shares | yes |
| Pascal VOC: `Annotations/*.xml`, `JPEGImages/`, perhaps `ImageSets/Main/*.txt` | pixels, from 1 or from 0 | perhaps |
| COCO: a `.json` with images, annotations, categories | x, y, width, height in pixels | no |
| table: a `.csv` with path,label,xmin,ymin,xmax,ymax and perhaps split,group | pixels or shares | perhaps |

The unit and frame of boxes are detected and noted, and refused where they are ambiguous. Of several objects in a photo,
the largest is the main one; how often that happened is noted. `box_checks` contains the common checks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opsin.config import DataConfig
from opsin.data.quality.box_checks import checked_boxes, in_pixels, listed, upright
from opsin.data.readers.coco_masks import check_image_ids
from opsin.data.readers.folders import SPLIT_NAMES, check_blank, check_groups, natural_sort, unlisted_note
from opsin.data.readers.found import Found
from opsin.data.readers.place import EDGES, Place
from opsin.data.samples import Source
from opsin.data.sources import FileSource
from opsin.errors import AnnotationError, DataError
from opsin.io.images import IMAGE_SUFFIXES
from opsin.io.tables import read_lines, read_xml
from opsin.io.walking import natural_key
from opsin.types import SPLITS, SplitName

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

COLUMNS = ("path", "label", *EDGES, "split", "group")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One object: its image file, its class and its box as annotated.

    `size`: (height, width) of the image as stated by the annotation, or None. `split`, `group`: as in tables.
    """

    path: Path
    id: str
    label: str
    box: tuple[float, float, float, float]
    size: tuple[int, int] | None = None
    split: SplitName | None = None
    group: str | None = None


def is_voc(place: Place) -> bool:
    """Whether a folder holds annotations of Pascal VOC."""
    return _voc_folder(place.path) is not None


def is_box_table(place: Place) -> bool:
    """Whether a table has the columns of boxes."""
    return set(EDGES) <= set(place.columns)


def read_box_table(place: Place) -> Found:
    """A table of boxes.

    Raises:
        DataError: columns are missing or unknown, or boxes do not fit their images; samples are named.
    """
    path, config, table, columns = place.path, place.config, place.rows, place.columns
    wrong = [name for name in ("path", "label") if name not in columns] + [n for n in columns if n not in COLUMNS]
    if wrong:
        expected = "path,label,xmin,ymin,xmax,ymax and perhaps split,group"
        raise DataError("the table lacks columns of boxes, or has others", where=path, got=columns, expected=expected)
    check_blank(table, path)
    rows = [
        Row(
            path=path.parent / line["path"],
            id=line["path"],
            label=line["label"],
            box=_four([line[name] for name in EDGES], f"{path}, line {number}"),
            split=_split(line["split"], f"{path}, line {number}") if "split" in line else None,
            group=line.get("group"),
        )
        for number, line in enumerate(table, start=2)
    ]
    return as_found(rows, config, name=path.stem, root=path, layout=f"table of {len(rows)} boxes", unit="")


def read_coco(place: Place) -> Found:
    """The boxes of a COCO file.

    Raises:
        AnnotationError: it is no COCO file.
        DataError: its images are not there, or boxes do not fit them; samples are named.
    """
    path, config, content = place.path, place.config, place.content
    try:
        names = {c["id"]: str(c["name"]) for c in content["categories"]}
        check_image_ids(content["images"], path)
        images = {image["id"]: image for image in content["images"]}
        objects = [a for a in content["annotations"] if not a.get("iscrowd") and a["image_id"] in images]
        folder = coco_folder(path, [str(image["file_name"]) for image in images.values()])
        rows = [
            Row(
                path=folder / str(images[a["image_id"]]["file_name"]),
                id=str(images[a["image_id"]]["file_name"]),
                label=names[a["category_id"]],
                box=_from_xywh(_four(a["bbox"], f"{path}, annotation {a.get('id')}")),
                size=_stated(images[a["image_id"]].get("height"), images[a["image_id"]].get("width")),
            )
            for a in objects
        ]
    except (KeyError, TypeError, AttributeError) as error:
        expected = "images, annotations with bbox, image_id and category_id, categories"
        raise AnnotationError(
            "this is not a COCO annotation", where=path, got=repr(error), expected=expected
        ) from error
    crowds = len(content["annotations"]) - len(objects)
    notes = [f"{crowds} annotations of crowds or of unknown images were ignored"] if crowds else []
    empty = len(images) - len({row.id for row in rows})
    notes += [f"{empty} images without an object were ignored"] if empty else []
    notes += unlisted_note(folder / str(image["file_name"]) for image in images.values())
    layout, unit = f"COCO, {len(rows)} objects", "boxes x, y, width, height in pixels"
    return as_found(rows, config, name=path.stem, root=path, layout=layout, unit=unit, notes=notes)


def coco_folder(path: Path, names: Sequence[str]) -> Path:
    """The folder that the file names are relative to."""
    stem = path.stem.removeprefix("instances_")
    places = [path.parent / p for p in ("", "images", "../images", stem, f"../{stem}", f"../images/{stem}")]
    for place in places:
        if names and (place / names[0]).is_file():
            return place
    tried = ", ".join(str(place) for place in places)
    raise DataError(
        "the images of the annotations were not found", where=path, got=f"looked in {tried}", expected=names[:1]
    )


def _voc_folder(path: Path) -> Path | None:
    """The folder with `Annotations` in it: `path` itself, or a year of a VOCdevkit inside."""
    candidates = [path, *sorted(path.glob("VOC*")), *sorted((path / "VOCdevkit").glob("VOC*"))]
    return next((place for place in candidates if any((place / "Annotations").glob("*.xml"))), None)


def read_voc(place: Place) -> Found:
    """Pascal VOC's annotations.

    Raises:
        DataError: an image is missing or in two splits, or boxes do not fit their images; samples are named.
        AnnotationError: a file of annotations is damaged.
    """
    folder, config = _voc_folder(place.path) or place.path, place.config
    files = sorted((folder / "Annotations").glob("*.xml"), key=lambda file: natural_key(file.name))
    splits = _voc_splits(folder)
    each = [_voc_rows(file, folder, splits.get(file.stem)) for file in files]
    rows = [row for _, found in each for row in found]
    empty = sum(not found for _, found in each)
    notes = [f"{empty} images without an object were ignored"] if empty else []
    notes += unlisted_note(image for image, _ in each)
    from_zero = any(row.box[0] == 0 or row.box[1] == 0 for row in rows)
    if not from_zero:
        rows = [replace(row, box=(row.box[0] - 1, row.box[1] - 1, *row.box[2:])) for row in rows]
    unit = "boxes in pixels counted from " + (
        "0, ends exclusive (there are zeros)" if from_zero else "1, ends inclusive"
    )
    layout = f"Pascal VOC, {len(rows)} objects"
    if splits:
        outside = sum(row.split is None for row in rows)
        notes += [f"{outside} objects of images not listed in ImageSets/Main were ignored"] if outside else []
        rows = [row for row in rows if row.split is not None]
    return as_found(rows, config, name=folder.resolve().name, root=folder, layout=layout, unit=unit, notes=notes)


def _voc_splits(folder: Path) -> dict[str, SplitName]:
    """Which split each image belongs to, by `ImageSets/Main/train.txt` and so on; empty where there are none."""
    found: dict[str, SplitName] = {}
    for split in SPLITS:
        file = folder / "ImageSets" / "Main" / f"{split}.txt"
        names = read_lines(file) if file.is_file() else []
        twice = [name for name in names if name in found]
        if twice:
            raise DataError(
                f"{len(twice)} images are in two splits",
                where=file,
                got=listed(twice),
                do="list each image in one file",
            )
        found |= dict.fromkeys(names, split)
    return found


def _voc_rows(file: Path, folder: Path, split: SplitName | None) -> tuple[Path, list[Row]]:
    """The image of one XML file, and the objects in it."""
    root = read_xml(file)
    size = root.find("size")
    stated = None if size is None else _stated(_text(size, "height"), _text(size, "width"))
    image = _voc_image(folder, file.stem, _text(root, "filename"))
    rows = []
    for entry in root.iter("object"):
        box = entry.find("bndbox")
        label = _text(entry, "name")
        if box is None or not label:
            raise AnnotationError("an object has no name or bndbox", where=file, do="complete or remove the object")
        edges = _four([_text(box, name) for name in EDGES], str(file))
        rows.append(Row(path=image, id=image.name, label=label, box=edges, size=stated, split=split))
    return image, rows


def _voc_image(folder: Path, stem: str, named: str | None) -> Path:
    """The image of an annotation: the file it names, else its own stem with an image suffix."""
    places = [folder / "JPEGImages", folder / "images", folder]
    names = [*([Path(named).name] if named else []), *(f"{stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))]
    for path in (place / name for place in places for name in names):
        if path.is_file():
            return path
    raise DataError("the image of an annotation was not found", where=folder, expected=f"JPEGImages/{names[0]}")


def as_found(
    rows: Sequence[Row], config: DataConfig, *, name: str, root: Path, layout: str, unit: str, notes: Sequence[str] = ()
) -> Found:
    """The data set of the main objects; `unit` says what their numbers are, "" leaves it to `config` and to themselves.

    Raises:
        DataError: no objects, images that are not there, or boxes that do not fit them.
    """
    if not rows:
        raise DataError("there are no objects with boxes", where=root, expected="one box or more")
    main, several = _main_objects(rows)
    _check_files(main, root)
    classes = natural_sort({row.label for row in main})
    source, said = _source(main, classes, config, unit, root)
    notes = [*notes, *said]
    if several:
        notes.append(f"{several} of {len(main)} images have several objects: the largest is the main one")
    splits: dict[SplitName, Source] = {}
    if any(row.split for row in main):
        of = np.array([row.split or "" for row in main])
        splits = {split: source.take(np.flatnonzero(of == split)) for split in SPLITS if (of == split).any()}
        check_groups(splits, where=root)
    return Found(
        name=name,
        task="localize",
        classes=classes,
        layout=layout + (f", {unit}" if unit else ""),
        splits=splits,
        pool=None if splits else source,
        root=root,
        notes=tuple(notes),
    )


def _main_objects(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The largest object of each image, in the order of the images, and how many images have several."""
    largest: dict[Path, Row] = {}
    for row in rows:
        if row.path in largest and row.split != largest[row.path].split:
            raise DataError(
                "an image is in two splits",
                got=row.id,
                expected="all objects of an image in one split",
                do="correct the column `split`",
            )
        if row.path not in largest or _area(row) > _area(largest[row.path]):
            largest[row.path] = row
    counts = Counter(row.path for row in rows)
    return list(largest.values()), sum(count > 1 for count in counts.values())


def _area(row: Row) -> float:
    x1, y1, x2, y2 = row.box
    return (x2 - x1) * (y2 - y1)


def _source(
    rows: Sequence[Row], classes: Sequence[str], config: DataConfig, unit: str, root: Path
) -> tuple[FileSource, list[str]]:
    """Files with their boxes in upright pixels, and notes."""
    number = {name: k for k, name in enumerate(classes)}
    ids = [row.id for row in rows]
    boxes = np.array([row.box for row in rows], np.float64)
    frame = upright([row.path for row in rows], [row.size for row in rows], ids, config.box_frame, where=root)
    notes = list(frame.notes)
    if not unit:
        boxes, said = in_pixels(boxes, frame.stored, config.box_units, where=str(root))
        notes.append(said)
    upright_boxes, clipped = checked_boxes(frame.turn(boxes), frame.sizes, ids, clip=config.clip_boxes, where=str(root))
    source = FileSource(
        paths=[row.path for row in rows],
        ids=ids,
        labels=np.array([number[row.label] for row in rows], np.int64),
        boxes=upright_boxes,
        groups=[row.group for row in rows if row.group is not None] or None,
    )
    return source, [*notes, *clipped]


def _check_files(rows: Sequence[Row], root: Path) -> None:
    missing = [row.id for row in rows if not row.path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} images were not found",
            where=root,
            got=listed(missing),
            do="add these files, or remove their rows",
        )


def _four(values: Any, where: str) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise AnnotationError(
            "a box is not four numbers",
            where=where,
            got=json.dumps(values, default=str),
            do="correct or remove this object",
        ) from error
    return x1, y1, x2, y2


def _from_xywh(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def _stated(height: Any, width: Any) -> tuple[int, int] | None:
    """The size stated by an annotation; None if it is missing, or 0 as some tools write."""
    try:
        size = int(height), int(width)
    except (TypeError, ValueError):
        return None
    return size if min(size) > 0 else None


def _text(element: Element, name: str) -> str | None:
    found = element.findtext(name)
    return None if found is None else found.strip()


def _split(name: str, where: str) -> SplitName:
    if name.lower() not in SPLIT_NAMES:
        raise DataError("no such split", where=where, got=name, expected=", ".join(SPLIT_NAMES))
    return SPLIT_NAMES[name.lower()]
