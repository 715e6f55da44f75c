"""Where what a person says of the photos of a folder lies: a folder of the studio's own beside that of the photos.

photos/                  the user's; nothing is written into it
photos-labelled/         made by the studio, known by its marker; where a user has one, `photos-labelled-2`, and so on
  opsin-studio.json      the marker: which folder it is about, the classes in their order
  photos-labels.csv      path,label (and split, where the photos' folder is divided)
  photos-boxes.json      COCO
  photos-masks/          images/, copies of the painted photos; masks/, PNG of class numbers; classes.txt
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from opsin.errors import InputError, OpsinError
from opsin.io.files import read_json, write_json, writing

MARKER = "opsin-studio.json"
MAX_CLASSES = 250
"""Classes of one folder: a mask holds 255 numbers."""
CLASS_NAME = re.compile(r"\w[\w ,'()+&-]{0,58}[\w)]|\w")
"""A class that keeps its name as a folder: letters of any script, digits, spaces and a little punctuation."""
CLASS_FOLDERS = "class folders"
"""The layout of folders without annotations in them, as the table of layouts calls it."""
Kind = Literal["labels", "boxes", "masks"]
KINDS: tuple[Kind, ...] = ("labels", "boxes", "masks")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The studio's folder beside `photos`; it may not be there yet."""

    photos: Path
    folder: Path

    @property
    def marker(self) -> Path:
        return self.folder / MARKER

    @property
    def labels(self) -> Path:
        """The table of labels."""
        return self.folder / f"{self.photos.name}-labels.csv"

    @property
    def boxes(self) -> Path:
        """The COCO file."""
        return self.folder / f"{self.photos.name}-boxes.json"

    @property
    def masks(self) -> Path:
        """The folder of pairs of images and masks."""
        return self.folder / f"{self.photos.name}-masks"

    def path(self, name: str) -> str:
        """A photo as the files name it: relative to their folder."""
        return f"../{self.photos.name}/{name}"

    def outputs(self) -> dict[Kind, Path]:
        """What is there by now, as `opsin.load` takes it."""
        found: dict[Kind, Path] = {"labels": self.labels, "boxes": self.boxes, "masks": self.masks}
        there = {"labels": self.labels.is_file(), "boxes": self.boxes.is_file(), "masks": holds_masks(self.masks)}
        return {kind: path for kind, path in found.items() if there[kind]}


def place_of(photos: Path) -> Place:
    """The folder of the studio about `photos`, or the first free name for one: what a user has there is left alone."""
    whole = photos.absolute()
    names = (f"{whole.name}-labelled" if number == 1 else f"{whole.name}-labelled-{number}" for number in count(1))
    folders = (whole.parent / name for name in names)
    return Place(photos=whole, folder=next(f for f in folders if not f.exists() or _is_about(f, whole)))


def why_not_labelled(photos: Path) -> str:
    """Why the pictures of a folder cannot be labelled, "" where they can: among photos in class folders, or in none.

    In another layout pictures of the test split would be shown, and masks taken for photos.
    """
    from opsin.config import DataConfig  # here, because the first page should not wait for it
    from opsin.data.readers.layouts import layout_at
    from opsin.data.readers.place import Place as Given

    try:
        layout = layout_at(Given(path=photos, config=DataConfig()))
    except OpsinError as error:
        return error.what
    return "" if layout is None or layout.name == CLASS_FOLDERS else f"a folder in the layout {layout.name}"


def classes_of(place: Place) -> tuple[str, ...] | None:
    """The classes in their order; None before labelling has begun."""
    if not place.marker.is_file():
        return None
    names = _content(place.marker).get("classes")
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def write_marker(place: Place, classes: tuple[str, ...]) -> None:
    """Make the folder the studio's, or note a new class.

    Raises:
        WriteError: it cannot be written.
    """
    write_json(place.marker, {"made_by": "opsin studio", "photos": place.photos.name, "classes": list(classes)})


def is_labelled_folder(folder: Path) -> bool:
    """Whether a folder is one of the studio's, beside some photos."""
    return (folder / MARKER).is_file()


def holds_masks(folder: Path) -> bool:
    """Whether there is a mask in a folder of pairs."""
    return (folder / "masks").is_dir() and next((folder / "masks").glob("*.png"), None) is not None


def last_change(path: Path) -> int:
    """When a table, a COCO file or a folder of pairs changed: in nanoseconds; 0 if it is gone."""
    masks = path / "masks"
    try:
        files = [masks, *masks.iterdir()] if path.is_dir() else [path]
        return max(file.stat().st_mtime_ns for file in files)
    except FileNotFoundError:
        return 0


def remove(path: Path) -> None:
    """Remove a file of the studio's own; one that is not there already is gone.

    Raises:
        WriteError: it cannot be removed.
    """
    with writing(path), suppress(FileNotFoundError):
        path.unlink()


def _is_about(folder: Path, photos: Path) -> bool:
    marker = folder / MARKER
    return marker.is_file() and _content(marker).get("photos") == photos.name


def _content(marker: Path) -> Mapping[str, object]:
    """The marker as an object; empty where it is damaged."""
    try:
        found = read_json(marker)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}
