"""What a person says of the photos of a folder: labels, boxes, masks, written beside it as Opsin's readers take them.

photos ── labels (label_table) | boxes (box_file) | masks (mask_folder) ── pages

The files are the only memory: for each change they are written back whole, and read again where they have changed, so
that the studio goes on where one stopped, and what was edited by hand in between is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import RLock

import numpy as np

from opsin.data.readers.folders import natural_sort
from opsin.server.refusal import RequestError
from opsin.studio.box_file import Box, BoxFile
from opsin.studio.label_table import LabelTable
from opsin.studio.labelled import CLASS_NAME, MAX_CLASSES, Kind, Place, classes_of, write_marker
from opsin.studio.mask_folder import MaskFolder
from opsin.studio.photos import Bytes, Photos, at_work
from opsin.types import VOID


class Annotations:
    """Labels, boxes and masks of the photos of one folder.

    Args:
        place: the photos, and the studio's folder beside them.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.photos = Photos(place.photos)
        self._labels, self._boxes, self._masks = LabelTable(place), BoxFile(place), MaskFolder(place)
        self._lock = RLock()

    @property
    def names(self) -> tuple[str, ...]:
        """The photos, without those of a test split."""
        return self.photos.names

    @property
    def classes(self) -> tuple[str, ...]:
        """In their order, which never changes: new ones come last."""
        return classes_of(self.place) or ()

    @property
    def begun(self) -> bool:
        """Whether there are classes."""
        return classes_of(self.place) is not None

    def refresh(self) -> None:
        """List the photos anew.

        Raises:
            InputError: the folder cannot be read, or a link leads out of it.
        """
        with self._lock:
            self.photos.refresh()
            self._masks.remove_lone_copies()

    def begin(self, classes: Sequence[str], *, from_folders: bool) -> None:
        """Set the classes; with `from_folders` each photo begins with the label of its folder.

        Raises:
            RequestError: 400 no class or an invalid one, 409 it has begun already.
        """
        with self._lock:
            if self.begun:
                raise RequestError(409, "labelling of these photos has begun", do="go on with it")
            by_folder = self.photos.classes() if from_folders else {}
            known = natural_sort(set(by_folder.values()))
            names = [*known, *dict.fromkeys(name for name in classes if name not in known)]
            for name in names:
                _check_class(name, known)
            if not 0 < len(names) <= MAX_CLASSES:
                raise RequestError(400, "how many classes?", got=len(names), expected=f"1 to {MAX_CLASSES}")
            write_marker(self.place, tuple(names))
            if by_folder:
                self._labels.write({self.place.path(name): label for name, label in by_folder.items()})

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
                self._masks.write_classes((*classes, name))
            return (*classes, name)

    def label_numbers(self) -> list[int]:
        """The class of each photo by its number; -1 where it has none."""
        number = {name: k for k, name in enumerate(self.classes)}
        labels, prefix = self._labels.labels(), self.place.path("")
        return [number.get(labels.get(prefix + name, ""), -1) for name in self.names]

    def label(self, name: str) -> int:
        """The class of a photo; -1 where it has none."""
        found, classes = self._labels.labels().get(self.place.path(name)), self.classes
        return classes.index(found) if found in classes else -1

    def set_label(self, name: str, label: int) -> None:
        """Give a photo a class, or take it away with -1."""
        with self._lock:
            self._labels.set_label(self.place.path(name), self._class(label) if label >= 0 else None)

    def boxes(self, name: str) -> list[Box]:
        """The boxes of a photo."""
        return self._boxes.boxes(self.place.path(name), len(self.classes))

    def set_boxes(self, name: str, boxes: Sequence[Box]) -> None:
        """Replace the boxes of a photo.

        Raises:
            RequestError: 400, a box does not lie in the photo; 409, the photo's file does not tell which side is up.
        """
        height, width = self.photos.size(name)
        if not self.photos.tells_which_side_is_up(name):
            do = "save it upright in another program first"
            raise RequestError(
                409, "this photo is stored upside down or mirrored; boxes in it would be doubtful", do=do
            )
        for box in boxes:
            self._class(box.label)
            inside = box.x >= 0 and box.y >= 0 and box.x + box.width <= width and box.y + box.height <= height
            if not (inside and box.width >= 1 and box.height >= 1):
                raise RequestError(400, "a box that does not lie in the photo", got=str(box)[:200])
        with self._lock:
            self._boxes.set_boxes(self.place.path(name), (height, width), boxes, self.classes)

    def mask(self, name: str) -> Bytes:
        """The mask of a photo at the size it is painted, uint8 [h, w]; `VOID` where nothing is painted."""
        return self._masks.mask(name, self.photos.size(name))

    def set_mask(self, name: str, painted: bytes) -> None:
        """Write the mask of a photo, with a copy of the photo beside it; remove it where nothing is painted.

        Args:
            name: the photo.
            painted: a byte for each pixel at the size it is painted, row by row: a class, or `VOID`.

        Raises:
            RequestError: 400, another size, or a number that is no class.
        """
        size = self.photos.size(name)
        height, width = at_work(*size)
        values = np.frombuffer(painted, np.uint8)
        if len(values) != height * width:
            raise RequestError(400, "a mask of another size", got=len(values), expected=f"{width} x {height} bytes")
        if ((values >= len(self.classes)) & (values != VOID)).any():
            raise RequestError(400, "a mask with numbers that are no classes", expected=f"below {len(self.classes)}")
        with self._lock:
            self._masks.set_mask(name, size, values.reshape(height, width), self.classes)

    def progress(self, kind: Kind) -> tuple[int, int]:
        """How many photos something is said of, and the number of the first without; 0 where there is none."""
        first: int | None
        if kind == "labels":
            labels = self.label_numbers()
            done, first = sum(label >= 0 for label in labels), next((i for i, k in enumerate(labels) if k < 0), None)
        elif kind == "boxes":
            said, prefix = self._boxes.paths(), self.place.path("")
            done = self._boxes.num_photos()
            first = next((i for i, name in enumerate(self.names) if prefix + name not in said), None)
        else:
            done, first = self._masks.num_photos(), self._masks.first_open(self.names)
        return done, first or 0

    def _class(self, label: int) -> str:
        classes = self.classes
        if not 0 <= label < len(classes):
            raise RequestError(400, "no such class", got=label, expected=f"0 to {len(classes) - 1}")
        return classes[label]


def _check_class(name: str, known: Iterable[str]) -> None:
    fits = 0 < len(name) <= 100 and name[0] not in "=+-@'" if name in known else CLASS_NAME.fullmatch(name)
    if not fits:
        expected = "letters, digits, spaces and , ' ( ) + & - within; at most 60"
        raise RequestError(400, "not a name of a class", got=name[:100], expected=expected)
