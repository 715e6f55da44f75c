"""Masks drawn from COCO annotations: polygons and run lengths, compressed or not.

| layout | recognized by |
|---|---|
| one file | a `.json`, with its images beside it or in `images/` |
| a file for each split | `annotations/instances_train*.json` beside `train*/`, and so for val |
| Roboflow's | `train/_annotations.coco.json` beside the images, and so for val (valid) and test |

Larger objects are drawn first, so that smaller ones lie on top; crowds become void.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.data.readers.folders import unlisted_note
from opsin.data.readers.found import Found
from opsin.data.readers.mask_sources import SPLIT_FOLDERS, TASK, MaskSource, Meaning, as_found
from opsin.data.readers.place import Place
from opsin.errors import AnnotationError, DataError, ImageError
from opsin.io.files import read_json
from opsin.io.images import IMAGE_SUFFIXES
from opsin.ops.polygons import decode_counts, fill_polygon, fill_runs
from opsin.types import SPLITS, VOID, SplitName

LARGEST_CLASS = 254


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The annotations of one image. `shapes`: class (or VOID) and segmentation of each, in the order of drawing."""

    name: str
    size: tuple[int, int]
    shapes: tuple[tuple[int, Any], ...]

    def draw(self, height: int, width: int) -> NDArray[np.uint8]:
        """The mask of the stored image of this size, uint8 `[height, width]`.

        Raises:
            ImageError: the image has another size than the annotations say, or a shape cannot be drawn.
        """
        if (height, width) != self.size:
            got, expected = f"{width}x{height}", f"{self.size[1]}x{self.size[0]}"
            raise ImageError(
                "the size of the image differs from its annotations", where=self.name, got=got, expected=expected
            )
        mask = np.zeros((height, width), np.uint8)
        for number, shape in self.shapes:
            try:
                mask[_inside(shape, height, width)] = number
            except (DataError, KeyError, TypeError, ValueError) as error:
                raise ImageError("a shape cannot be drawn", where=self.name, got=str(error)[:200]) from error
        return mask

    def digest(self) -> str:
        """SHA-256 of everything drawn."""
        return hashlib.sha256(json.dumps([self.size, self.shapes]).encode()).hexdigest()


def _inside(shape: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a list of polygons, or of run lengths."""
    if isinstance(shape, Mapping):
        counts = shape["counts"]
        return fill_runs(decode_counts(counts) if isinstance(counts, str) else counts, height, width)
    inside = np.zeros((height, width), bool)
    for polygon in shape:
        inside |= fill_polygon(polygon, height, width)
    return inside


def holds_outlines(place: Place) -> bool:
    """Whether a COCO file outlines its objects, not their boxes alone; any does where it is asked for."""
    annotations = place.content.get("annotations", []) if isinstance(place.content, Mapping) else []
    return place.task == TASK or any(isinstance(row, Mapping) and row.get("segmentation") for row in annotations)


def has_split_files(place: Place) -> bool:
    """Whether a folder has a COCO file for each split."""
    return bool(_split_files(place.path))


def read_coco_masks(place: Place) -> Found:
    """Masks of a COCO file, or of a folder with one for each split.

    Raises:
        AnnotationError: a file is no COCO file, or categories differ between files.
        DataError: images are missing, or there are no shapes.
    """
    path, config = place.path, place.config
    files: dict[SplitName | None, Path] = {None: path} if path.is_file() else _split_files(path)
    parts = {split: place.content if file == path else read_json(file) for split, file in files.items()}
    try:
        names = {(int(c["id"]), str(c["name"])) for part in parts.values() for c in part["categories"]}
        classes = ["background", *(name for _, name in sorted(names))]
        numbers = {number: k for k, (number, _) in enumerate(sorted(names), start=1)}
        if len(numbers) != len(names) or len(classes) > LARGEST_CLASS:
            raise AnnotationError(
                "categories differ between files, or are too many",
                where=path,
                do="use the same categories in every file",
            )
        meaning = Meaning.of(classes).of_config(config)
        sources = {split: _source(parts[split], file, numbers, meaning) for split, file in files.items()}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        expected = "images, annotations with segmentation, image_id and category_id, and categories, as COCO has them"
        raise AnnotationError(
            "this is not a COCO annotation", where=path, got=repr(error), expected=expected
        ) from error
    notes = ["smaller objects lie on top of larger ones; crowds are void; the rest is background"]
    notes += [] if path.is_file() else _unannotated(path, files)
    notes += unlisted_note(image for source in sources.values() for image in source.paths)
    pool = sources.pop(None, None)
    splits = {split: sources[split] for split in SPLITS if split in sources}
    return as_found(path, path.resolve().stem, meaning, splits, "COCO: shapes drawn as masks", pool, notes=tuple(notes))


def _split_files(folder: Path) -> dict[SplitName | None, Path]:
    """The COCO file of each split of a folder."""
    found: dict[SplitName | None, Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        candidates = [folder / name / "_annotations.coco.json" for name in names]
        candidates += sorted((folder / "annotations").glob(f"instances_{split}*.json"))
        files = [file for file in candidates if file.is_file()]
        if files:
            found[split] = files[0]
    return found


def _unannotated(folder: Path, files: Mapping[SplitName | None, Path]) -> list[str]:
    """Notes on split folders that contain images but no annotations."""
    notes = []
    for name in (name for split, names in SPLIT_FOLDERS.items() if split not in files for name in names):
        place = folder / name
        count = sum(p.suffix.lower() in IMAGE_SUFFIXES for p in place.iterdir()) if place.is_dir() else 0
        if count:
            notes.append(f"{name}/ was ignored: {count} images, but no _annotations.coco.json")
    return notes


def _source(part: Any, file: Path, numbers: Mapping[int, int], meaning: Meaning) -> MaskSource:
    """The images of one file, in its order."""
    shapes: dict[int, list[tuple[float, int, Any]]] = {}
    for row in part["annotations"]:
        number = VOID if row.get("iscrowd") else numbers[int(row["category_id"])]
        area = float(row.get("area", row["bbox"][2] * row["bbox"][3] if "bbox" in row else 0.0))
        shapes.setdefault(int(row["image_id"]), []).append((area, number, row["segmentation"]))
    images = part["images"]
    if not any(shape for rows in shapes.values() for _, _, shape in rows):
        raise DataError("there are no shapes", where=file, expected="polygons or run lengths in `segmentation`")
    check_image_ids(images, file)
    folder = _image_folder(file, str(images[0]["file_name"]))
    drawn = [
        Drawn(
            name=str(image["file_name"]),
            size=(int(image["height"]), int(image["width"])),
            shapes=tuple((n, s) for _, n, s in sorted(shapes.get(int(image["id"]), []), key=lambda row: -row[0])),
        )
        for image in images
    ]
    paths = [folder / one.name for one in drawn]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} images are missing",
            where=f"{folder}: {', '.join(missing[:10])}",
            do="add these files, or remove them from the annotations",
        )
    return MaskSource(paths=paths, drawn=drawn, ids=[one.name for one in drawn], meaning=meaning)


def check_image_ids(images: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Refuse images that share an id: their annotations could not be distinguished.

    Raises:
        AnnotationError: such ids, named.
    """
    counts = Counter(image["id"] for image in images)
    twice = [str(number) for number, count in counts.items() if count > 1]
    if twice:
        raise AnnotationError("images share an id", where=file, got=", ".join(twice[:10]), expected="an id for each")


def _image_folder(file: Path, first: str) -> Path:
    """The folder of the images of a COCO file."""
    stem = file.stem.removeprefix("instances_")
    folders = (file.parent, file.parent / "images", file.parent.parent / stem, file.parent.parent / "images" / stem)
    for folder in folders:
        if (folder / first).is_file():
            return folder
    expected = " or ".join(map(str, folders))
    raise DataError("the images of a COCO file were not found", where=file, got=first, expected=f"it in {expected}")
