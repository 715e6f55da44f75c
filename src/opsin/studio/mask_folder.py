"""The masks of the photos of a folder: PNG of class numbers beside copies of the photos, as pairs are read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from opsin.io.files import write_atomically
from opsin.io.images import encode_png, read_mask
from opsin.studio.labelled import Place, remove
from opsin.studio.photos import Bytes, at_work
from opsin.types import VOID


class MaskFolder:
    """The masks of one folder of photos."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._masks, self._copies = place.masks / "masks", place.masks / "images"

    def mask(self, name: str, size: tuple[int, int]) -> Bytes:
        """The mask of a photo of `size`, as large as it is painted, uint8 [h, w]; `VOID` where nothing is painted."""
        height, width = at_work(*size)
        path = self._mask_path(name)
        if not path.is_file():
            return np.full((height, width), VOID, np.uint8)
        return _nearest(read_mask(path).indices, height, width)

    def set_mask(self, name: str, size: tuple[int, int], values: Bytes, classes: Sequence[str]) -> None:
        """Write the mask of a photo of `size`, with a copy of the photo; remove both where nothing is painted.

        Args:
            name: the photo.
            size: its height and width.
            values: uint8 [h, w] as large as it is painted.
            classes: in their order.
        """
        mask, copy = self._mask_path(name), self._copies / f"{_stem(name)}{Path(name).suffix.lower()}"
        if (values == VOID).all():
            remove(mask)
            remove(copy)
            return
        self.write_classes(classes)
        if not copy.is_file():
            write_atomically(copy, (self._place.photos / name).read_bytes())
        write_atomically(mask, encode_png(_nearest(values, *size)[None]))

    def write_classes(self, classes: Sequence[str]) -> None:
        """Name the classes for whoever reads the masks."""
        write_atomically(self._place.masks / "classes.txt", "".join(f"{name}\n" for name in classes).encode())

    def num_photos(self) -> int:
        """Photos with a mask."""
        return len(self._stems())

    def first_open(self, names: Sequence[str]) -> int | None:
        """The number of the first photo without a mask."""
        stems = self._stems()
        return next((i for i, name in enumerate(names) if _stem(name) not in stems), None)

    def remove_lone_copies(self) -> None:
        """Remove copies of photos whose mask was not written, because the studio was killed in between."""
        stems = self._stems()
        for path in self._copies.iterdir() if self._copies.is_dir() else ():
            if path.stem not in stems:
                remove(path)

    def _stems(self) -> set[str]:
        return {path.stem for path in self._masks.glob("*.png")} if self._masks.is_dir() else set()

    def _mask_path(self, name: str) -> Path:
        return self._masks / f"{_stem(name)}.png"


def _nearest(values: Bytes, height: int, width: int) -> Bytes:
    """uint8 [h, w] at another size, by the nearest pixel."""
    rows = (np.arange(height) + 0.5) * values.shape[0] / height
    columns = (np.arange(width) + 0.5) * values.shape[1] / width
    return np.ascontiguousarray(values[rows.astype(np.int64)[:, None], columns.astype(np.int64)[None]])


def _stem(name: str) -> str:
    """A plain file name without suffix for a photo, different for each."""
    plain = re.sub(r"[^\w-]+", "-", name.rpartition(".")[0])[-60:].strip("-")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
