"""The boxes of the photos of a folder: a COCO file beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opsin.errors import DataError
from opsin.io.files import read_json, write_json
from opsin.studio.labelled import Place, remove
from opsin.studio.remembered import Remembered

Object = Mapping[str, object]
Coco = Mapping[str, Sequence[Object]]
LISTS = ("images", "annotations")


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box of class `label` (a number), in pixels of the upright photo."""

    label: int
    x: float
    y: float
    width: float
    height: float


class BoxFile:
    """The COCO file of one folder of photos."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._file: Remembered[Coco] = Remembered(place.boxes, _read, dict.fromkeys(LISTS, ()))

    def paths(self) -> set[object]:
        """The photos with boxes, as the file names them."""
        return {image.get("file_name") for image in self._file.content()["images"]}

    def num_photos(self) -> int:
        """Photos with boxes."""
        return len(self._file.content()["images"])

    def boxes(self, path: str, num_classes: int) -> list[Box]:
        """The boxes of a photo.

        Raises:
            DataError: the file is none of the studio's.
        """
        content = self._file.content()
        numbers = _numbers_of(path, content)
        return [_box(entry, num_classes) for entry in content["annotations"] if entry.get("image_id") in numbers]

    def set_boxes(self, path: str, size: tuple[int, int], boxes: Sequence[Box], classes: Sequence[str]) -> None:
        """Replace the boxes of a photo of `size` (height, width); remove the file where there are none left."""
        content = self._file.content()
        gone = _numbers_of(path, content)
        images = [image for image in content["images"] if image["id"] not in gone]
        kept = [entry for entry in content["annotations"] if entry.get("image_id") not in gone]
        if boxes:
            number, (height, width) = _next_id(images), size
            images.append({"id": number, "file_name": path, "width": width, "height": height})
            first = _next_id(kept)
            kept += [_entry(first + i, number, box) for i, box in enumerate(boxes)]
        self._write(images, kept, classes)

    def _write(self, images: Sequence[Object], annotations: Sequence[Object], classes: Sequence[str]) -> None:
        if not images:
            remove(self._place.boxes)
            return
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(classes)]
        about = {"description": f"boxes of {self._place.photos.name}, drawn in Opsin's studio"}
        content = {"info": about, "images": images, "annotations": annotations, "categories": categories}
        write_json(self._place.boxes, content)


def _read(path: Path) -> Coco:
    content = read_json(path)
    lists = {key: content.get(key, []) if isinstance(content, dict) else None for key in LISTS}
    if not all(isinstance(v, list) and all(isinstance(e, dict) and "id" in e for e in v) for v in lists.values()):
        raise DataError("the file of boxes was changed", where=path, expected="COCO, as the studio writes it")
    return {key: value for key, value in lists.items() if value is not None}


def _numbers_of(path: str, content: Coco) -> set[object]:
    return {image["id"] for image in content["images"] if image.get("file_name") == path}


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


def _box(entry: Object, num_classes: int) -> Box:
    """A box of the file.

    Raises:
        DataError: it is none of the studio's.
    """
    match entry:
        case {"category_id": int() as kind, "bbox": [*sides]} if 1 <= kind <= num_classes and len(sides) == 4:
            x, y, width, height = (float(side) if isinstance(side, int | float) else math.nan for side in sides)
            return Box(label=kind - 1, x=x, y=y, width=width, height=height)
    raise DataError("the file of boxes was changed", got=str(entry)[:200], expected="COCO, as the studio writes it")
