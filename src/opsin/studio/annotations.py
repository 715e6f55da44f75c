"""What a person says of the photos of a folder: labels, boxes, masks, written beside it as Opsin's readers take them.

The files are the only memory: for each change they are read and written back whole, so that the studio goes on where
one stopped, and what was edited by hand in between is kept. Photos are named by their number in a list that is made
anew with each page; `token` says which list a number belongs to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from opsin.data.readers.folders import SPLIT_NAMES, natural_sort
from opsin.errors import DataError
from opsin.io.files import natural_key, read_json, walk_files, write_atomically, write_json
from opsin.io.images import IMAGE_SUFFIXES, encode_png, read_image, read_mask, read_size
from opsin.io.tables import read_table, write_table
from opsin.ops.resize import fit_image
from opsin.server.refusal import RequestError
from opsin.studio.labelled import CLASS_NAME, MAX_CLASSES, Kind, Place, classes_of, remove, write_marker
from opsin.types import VOID, SizePolicy

Bytes = NDArray[np.uint8]
Object = dict[str, object]
WORK_PX = 1024
"""Longer side at which photos are shown and masks are painted."""
SIDEWAYS = 5
"""EXIF orientations from here on swap height and width."""
TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box of class `label` (a number), in pixels of the upright photo."""

    label: int
    x: float
    y: float
    width: float
    height: float


class Annotations:
    """Labels, boxes and masks of the photos of one folder.

    Args:
        place: the photos, and the studio's folder beside them.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.names: tuple[str, ...] = ()
        self.sealed: tuple[str, ...] = ()
        self.token = ""
        self._lock = RLock()

    @property
    def classes(self) -> tuple[str, ...]:
        """In their order, which never changes: new ones come last."""
        return classes_of(self.place) or ()

    @property
    def begun(self) -> bool:
        """Whether there are classes."""
        return classes_of(self.place) is not None

    def refresh(self) -> None:
        """List the photos anew; those of a test split are left out, and so are names that are no text.

        Raises:
            InputError: the folder cannot be read, or a link leads out of it.
        """
        with self._lock:
            photos = (p for p in walk_files(self.place.photos, _ignore) if p.suffix.lower() in IMAGE_SUFFIXES)
            names = [path.relative_to(self.place.photos).as_posix() for path in photos]
            usable = [name for name in names if name.isprintable() and not re.search(r"(^|/)\.", name)]
            self.sealed = tuple(name for name in usable if _split_of(name) == TEST)
            self.names = tuple(name for name in usable if _split_of(name) != TEST)
            self.token = hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]
            self._remove_lone_copies()

    def folder_classes(self) -> dict[str, str]:
        """The class of each photo, test too, by the folder it lies in; empty where the folders are not two or more."""
        found = {name: label for name in (*self.names, *self.sealed) if (label := _folder_class(name))}
        return found if len(set(found.values())) > 1 else {}

    def begin(self, classes: Sequence[str], *, from_folders: bool) -> None:
        """Set the classes; with `from_folders` each photo begins with the label of its folder.

        Raises:
            RequestError: 400 no class or an invalid one, 409 it has begun already.
        """
        with self._lock:
            if self.begun:
                raise RequestError(409, "labelling of these photos has begun", do="go on with it")
            by_folder = self.folder_classes() if from_folders else {}
            known = natural_sort(set(by_folder.values()))
            names = [*known, *dict.fromkeys(name for name in classes if name not in known)]
            for name in names:
                _check_class(name, known)
            if not 0 < len(names) <= MAX_CLASSES:
                raise RequestError(400, "how many classes?", got=len(names), expected=f"1 to {MAX_CLASSES}")
            write_marker(self.place, tuple(names))
            if by_folder:
                self._write_labels({self._path(name): label for name, label in by_folder.items()})

    def add_class(self, name: str) -> tuple[str, ...]:
        """Add a class after the others; one that is there stays where it is. Returns all.

        Raises:
            RequestError: 400 invalid, 409 too many.
        """
        with self._lock:
            classes = self.classes
            if name in classes:
                return classes
            _check_class(name, ())
            if len(classes) >= MAX_CLASSES:
                raise RequestError(409, "too many classes", expected=f"at most {MAX_CLASSES}")
            write_marker(self.place, (*classes, name))
            if self.place.masks.is_dir():
                self._write_mask_classes()
            return (*classes, name)

    def name(self, number: int, token: str) -> str:
        """The photo of a number.

        Raises:
            RequestError: 409 another list, 404 no such number.
        """
        if token != self.token:
            raise RequestError(409, "the folder has changed", do="load the page anew")
        if not 0 <= number < len(self.names):
            raise RequestError(404, "no such photo", got=number)
        return self.names[number]

    def photo(self, name: str) -> Bytes:
        """A photo, upright, at most `WORK_PX` large: uint8 [3, H, W].

        Raises:
            ImageError: it cannot be read.
        """
        found = read_image(self.place.photos / name, sides=_at_work)
        height, width = _at_work(*found.size)
        return fit_image(found.pixels, SizePolicy(height=height, width=width), whole=found.size)

    def size(self, name: str) -> tuple[int, int]:
        """Height and width of the upright photo."""
        height, width, orientation = read_size(self.place.photos / name)
        return (width, height) if orientation >= SIDEWAYS else (height, width)

    # labels

    def labels(self) -> dict[str, str]:
        """Labels by photo, test included where the folders told them.

        Raises:
            DataError: the table has other columns than the studio writes.
        """
        path = self.place.labels
        if not path.is_file():
            return {}
        rows = read_table(path)
        if not {"path", "label"} <= set(rows[0]) <= {"path", "label", "split"}:
            raise DataError("the table of labels was changed", where=path, got=list(rows[0]), expected="path,label")
        return {row["path"]: row["label"] for row in rows}

    def label_numbers(self) -> list[int]:
        """The class of each photo by its number; -1 where it has none."""
        number = {name: k for k, name in enumerate(self.classes)}
        labels = self.labels()
        return [number.get(labels.get(self._path(name), ""), -1) for name in self.names]

    def set_label(self, name: str, label: int) -> None:
        """Give a photo a class, or take it away with -1."""
        with self._lock:
            labels = self.labels()
            labels.pop(self._path(name), None)
            if label >= 0:
                labels[self._path(name)] = self._class(label)
            self._write_labels(labels)

    def _write_labels(self, labels: Mapping[str, str]) -> None:
        if not labels:
            remove(self.place.labels)
            return
        order = sorted(labels, key=natural_key)
        splits = {path: _split_of(path.removeprefix(self._path(""))) for path in order}
        if all(splits.values()):
            write_table(self.place.labels, ("path", "label", "split"), ((p, labels[p], splits[p]) for p in order))
        else:
            write_table(self.place.labels, ("path", "label"), ((path, labels[path]) for path in order))

    # boxes

    def boxes(self, name: str) -> list[Box]:
        """The boxes of a photo."""
        content = self._coco()
        numbers = {image["id"] for image in content["images"] if image.get("file_name") == self._path(name)}
        order = {k + 1: k for k in range(len(self.classes))}
        return [_box(entry, order) for entry in content["annotations"] if entry.get("image_id") in numbers]

    def set_boxes(self, name: str, boxes: Sequence[Box]) -> None:
        """Replace the boxes of a photo.

        Raises:
            RequestError: 400, a box does not lie in the photo; 409, the photo's file does not tell which side is up.
        """
        height, width = self.size(name)
        self._check_frame(name, height, width)
        for box in boxes:
            self._class(box.label)
            inside = box.x >= 0 and box.y >= 0 and box.x + box.width <= width and box.y + box.height <= height
            if not (inside and box.width >= 1 and box.height >= 1):
                raise RequestError(400, "a box that does not lie in the photo", got=str(box)[:200])
        with self._lock:
            content, path = self._coco(), self._path(name)
            gone = {image["id"] for image in content["images"] if image.get("file_name") == path}
            images = [image for image in content["images"] if image["id"] not in gone]
            kept = [entry for entry in content["annotations"] if entry.get("image_id") not in gone]
            if boxes:
                number = _next_id(images)
                images.append({"id": number, "file_name": path, "width": width, "height": height})
                kept += [_entry(_next_id(kept) + i, number, box) for i, box in enumerate(boxes)]
            self._write_coco(images, kept)

    def num_boxed(self) -> int:
        """Photos with boxes."""
        return len(self._coco()["images"])

    def _coco(self) -> dict[str, list[Object]]:
        path = self.place.boxes
        content = read_json(path) if path.is_file() else {}
        lists = {key: content.get(key, []) if isinstance(content, dict) else None for key in ("images", "annotations")}
        if not all(isinstance(v, list) and all(isinstance(e, dict) and "id" in e for e in v) for v in lists.values()):
            raise DataError("the file of boxes was changed", where=path, expected="COCO, as the studio writes it")
        return {key: value for key, value in lists.items() if value is not None}

    def _write_coco(self, images: list[Object], annotations: list[Object]) -> None:
        if not images:
            remove(self.place.boxes)
            return
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(self.classes)]
        about = {"description": f"boxes of {self.place.photos.name}, drawn in Opsin's studio"}
        content = {"info": about, "images": images, "annotations": annotations, "categories": categories}
        write_json(self.place.boxes, content)

    def _check_frame(self, name: str, height: int, width: int) -> None:
        turned = read_size(self.place.photos / name)[2]
        if turned > 1 and (turned < SIDEWAYS or height == width):
            do = "save it upright in another program first"
            raise RequestError(
                409, "this photo is stored upside down or mirrored; boxes in it would be doubtful", do=do
            )

    # masks

    def mask(self, name: str) -> Bytes:
        """The mask of a photo at the size it is painted, uint8 [h, w]; `VOID` where nothing is painted."""
        height, width = _at_work(*self.size(name))
        path = self._mask_path(name)
        if not path.is_file():
            return np.full((height, width), VOID, np.uint8)
        return _nearest(read_mask(path).indices, height, width)

    def set_mask(self, name: str, painted: bytes) -> None:
        """Write the mask of a photo, with a copy of the photo beside it; remove it where nothing is painted.

        Args:
            name: the photo.
            painted: a byte for each pixel at the size it is painted, row by row: a class, or `VOID`.

        Raises:
            RequestError: 400, another size, or a number that is no class.
        """
        whole = self.size(name)
        height, width = _at_work(*whole)
        values = np.frombuffer(painted, np.uint8)
        if len(values) != height * width:
            raise RequestError(400, "a mask of another size", got=len(values), expected=f"{width} x {height} bytes")
        if ((values >= len(self.classes)) & (values != VOID)).any():
            raise RequestError(400, "a mask with numbers that are no classes", expected=f"below {len(self.classes)}")
        mask, copy = self._mask_path(name), self._copy_path(name)
        with self._lock:
            if (values == VOID).all():
                remove(mask)
                remove(copy)
                return
            self._write_mask_classes()
            if not copy.is_file():
                write_atomically(copy, (self.place.photos / name).read_bytes())
            write_atomically(mask, encode_png(_nearest(values.reshape(height, width), *whole)[None]))

    def num_masked(self) -> int:
        """Photos with a mask."""
        folder = self.place.masks / "masks"
        return sum(1 for _ in folder.glob("*.png")) if folder.is_dir() else 0

    def _write_mask_classes(self) -> None:
        write_atomically(self.place.masks / "classes.txt", "".join(f"{name}\n" for name in self.classes).encode())

    def _mask_path(self, name: str) -> Path:
        return self.place.masks / "masks" / f"{_stem(name)}.png"

    def _copy_path(self, name: str) -> Path:
        return self.place.masks / "images" / f"{_stem(name)}{Path(name).suffix.lower()}"

    def _remove_lone_copies(self) -> None:
        """Copies of photos whose mask was not written, because the studio was killed in between."""
        copies = self.place.masks / "images"
        for path in copies.iterdir() if copies.is_dir() else ():
            if not (self.place.masks / "masks" / f"{path.stem}.png").is_file():
                remove(path)

    # all

    def done(self, kind: Kind) -> int:
        """Photos of which something is said."""
        if kind == "labels":
            return sum(label >= 0 for label in self.label_numbers())
        return self.num_boxed() if kind == "boxes" else self.num_masked()

    def first_open(self, kind: Kind) -> int:
        """The number of the first photo of which nothing is said; 0 where there is none."""
        if kind == "labels":
            left: Iterable[int] = (i for i, label in enumerate(self.label_numbers()) if label < 0)
        elif kind == "boxes":
            said = {image.get("file_name") for image in self._coco()["images"]}
            left = (i for i, name in enumerate(self.names) if self._path(name) not in said)
        else:
            left = (i for i, name in enumerate(self.names) if not self._mask_path(name).is_file())
        return next(iter(left), 0)

    def _path(self, name: str) -> str:
        """A photo as the files name it: relative to their folder."""
        return f"../{self.place.photos.name}/{name}"

    def _class(self, label: int) -> str:
        classes = self.classes
        if not 0 <= label < len(classes):
            raise RequestError(400, "no such class", got=label, expected=f"0 to {len(classes) - 1}")
        return classes[label]


def _ignore(_: str) -> None:
    """Pipes and broken links are no photos."""


def _split_of(name: str) -> str:
    """The split that the first folder of a photo names; "" where it names none."""
    first, slash, _ = name.partition("/")
    return SPLIT_NAMES.get(first.lower(), "") if slash else ""


def _folder_class(name: str) -> str:
    parts = name.split("/")[1 if _split_of(name) else 0 : -1]
    return parts[0].strip() if parts else ""


def _check_class(name: str, known: Iterable[str]) -> None:
    fits = 0 < len(name) <= 100 and name[0] not in "=+-@'" if name in known else CLASS_NAME.fullmatch(name)
    if not fits:
        expected = "letters, digits, spaces and , ' ( ) + & - within; at most 60"
        raise RequestError(400, "not a name of a class", got=name[:100], expected=expected)


def _at_work(height: int, width: int) -> tuple[int, int]:
    """Height and width at which a photo is shown and painted."""
    factor = min(1.0, WORK_PX / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _nearest(values: Bytes, height: int, width: int) -> Bytes:
    """uint8 [h, w] at another size, by the nearest pixel."""
    rows = (np.arange(height) + 0.5) * values.shape[0] / height
    columns = (np.arange(width) + 0.5) * values.shape[1] / width
    return np.ascontiguousarray(values[rows.astype(np.int64)[:, None], columns.astype(np.int64)[None]])


def _stem(name: str) -> str:
    """A plain file name without suffix for a photo, different for each."""
    plain = re.sub(r"[^\w-]+", "-", name.rpartition(".")[0])[-60:].strip("-")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _next_id(entries: Iterable[Object]) -> int:
    return 1 + max((found for entry in entries if isinstance(found := entry["id"], int)), default=0)


def _entry(number: int, image: int, box: Box) -> Object:
    left, top, right, bottom = (round(side) for side in (box.x, box.y, box.x + box.width, box.y + box.height))
    return {
        "id": number,
        "image_id": image,
        "category_id": box.label + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "iscrowd": 0,
    }


def _box(entry: Object, order: Mapping[int, int]) -> Box:
    """A box of the file.

    Raises:
        DataError: it is none of the studio's.
    """
    match entry:
        case {"category_id": int() as kind, "bbox": [*sides]} if kind in order and len(sides) == 4:
            x, y, width, height = (float(side) if isinstance(side, int | float) else np.nan for side in sides)
            return Box(label=order[kind], x=x, y=y, width=width, height=height)
    raise DataError("the file of boxes was changed", got=str(entry)[:200], expected="COCO, as the studio writes it")
