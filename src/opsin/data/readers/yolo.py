"""YOLO's folders: `data.yaml`, photos below `images/`, and for each a `.txt` of the same name below `labels/`.

A line is `class x y w h`, the centre and the sides as shares of the photo's sides as it is shown, or `class x1 y1 x2 y2
…`, an outline, of which the box is taken. A photo without a file, or with an empty one, holds no object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from opsin.data.readers.box_files import Row, as_found
from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.errors import AnnotationError, DataError
from opsin.io.images import IMAGE_SUFFIXES
from opsin.io.tables import read_lines
from opsin.io.walking import natural_key, walk_files
from opsin.io.yaml_files import read_yaml
from opsin.text import printable
from opsin.types import SPLITS, SplitName

CARDS = ("data.yaml", "data.yml", "dataset.yaml")


def is_yolo(place: Place) -> bool:
    """Whether a folder has YOLO's card beside its `images` or its splits."""
    return _card(place.path) is not None


def _card(folder: Path) -> Path | None:
    return next((folder / name for name in CARDS if (folder / name).is_file()), None)


def read_yolo(place: Place) -> Found:
    """The boxes of YOLO's labels.

    Raises:
        AnnotationError: the card or a file of labels is not as YOLO has it; file and line are named.
        DataError: folders are missing or lie outside, or boxes do not fit their photos.
    """
    card = _card(place.path) or place.path / CARDS[0]
    content = read_yaml(card)
    names = _names(content, card)
    rows: list[Row] = []
    num_photos = 0
    for split in SPLITS:
        for photo in _photos(content, split, card):
            num_photos += 1
            rows += _rows(photo, place.path, names, split)
    empty = num_photos - len({row.path for row in rows})
    notes = [f"{empty} images without an object were left out"] if empty else []
    shares = replace(place.config, box_units="normalized", box_frame="upright")
    layout = f"YOLO, {len(rows)} objects"
    return as_found(rows, shares, name=place.path.resolve().name, root=place.path, layout=layout, unit="", notes=notes)


def _names(content: Any, card: Path) -> dict[int, str]:
    """Class names by number, of a list or a mapping."""
    names = content.get("names") if isinstance(content, Mapping) else None
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names if isinstance(names, list) else ())
    found = {int(number): str(name) for number, name in pairs if str(number).isdigit()}
    if not found:
        raise AnnotationError("the card names no classes", where=card, expected="names: a list, or numbers with names")
    return found


def _photos(content: Mapping[str, Any], split: SplitName, card: Path) -> list[Path]:
    """The photos of one split; the paths of the card are below its own folder, whatever `path` says."""
    named = content.get(split, content.get("valid") if split == "val" else None)
    if named is None:
        return []
    if not isinstance(named, str):
        got, expected = printable(named)[:200], "one folder for each split"
        raise AnnotationError("a split that is no folder", where=f"{card}, {split}", got=got, expected=expected)
    root = card.parent.resolve()
    parts = [part for part in PurePosixPath(named).parts if part not in ("..", ".", "/")]
    # Roboflow writes ../train/images for a folder that lies beside the card.
    folder = root.joinpath(*parts)
    if not folder.is_dir() or not folder.resolve().is_relative_to(root):
        raise DataError("a folder of the card is not there", where=f"{card}, {split}", got=named, expected=f"{folder}/")
    files = [path for path in walk_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    photos = (path for path in files if "labels" not in path.relative_to(root).parts)
    return sorted(photos, key=lambda path: natural_key(str(path)))


def _rows(photo: Path, root: Path, names: Mapping[int, str], split: SplitName) -> list[Row]:
    """The objects of one photo."""
    base = root.resolve()
    parts = list(photo.relative_to(base).parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    file = base.joinpath(*parts).with_suffix(".txt")
    if not file.is_file() or file.stat().st_size == 0:
        return []
    name = photo.relative_to(base).as_posix()
    return [
        Row(path=photo, id=name, label=label, box=box, split=split)
        for label, box in (_object(line, number, file, names) for number, line in enumerate(read_lines(file), start=1))
    ]


def _object(
    line: str, number: int, file: Path, names: Mapping[int, str]
) -> tuple[str, tuple[float, float, float, float]]:
    """Class and box, as shares of the sides, of one line."""
    where = f"{printable(file)}, line {number}"
    try:
        label, *values = (float(word) for word in line.split())
        name = names[int(label)] if label == int(label) else names[-1]
    except (ValueError, KeyError, OverflowError) as error:
        got, expected = printable(line)[:200], f"a class from 0 to {max(names)}, then numbers"
        raise AnnotationError(
            "a line of labels that cannot be read", where=where, got=got, expected=expected
        ) from error
    if len(values) == 4:
        x, y, width, height = values
        return name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(values) >= 6 and len(values) % 2 == 0:
        return name, (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    expected = "class x y w h, or class and the corners of an outline"
    raise AnnotationError(
        "a line of labels of another length", where=where, got=f"{len(values) + 1}", expected=expected
    )
