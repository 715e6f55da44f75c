"""Masks of a split: the meaning of their values, their source, and the data set made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.config import DataConfig
from opsin.data.parallel import HASHING_THREADS
from opsin.data.readers.found import Found
from opsin.data.samples import Bytes, Source
from opsin.data.sources import FileSource
from opsin.errors import ConfigError, ImageError
from opsin.io.files import sha256_file
from opsin.io.images import DecodedImage, read_mask, turn_upright
from opsin.types import VOID, SplitName, TaskName

TASK: TaskName = "segment"
SPLIT_FOLDERS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
FOREGROUND_CLASSES = ("background", "foreground")
REFUSED = -1
NUM_NAMED = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Meaning:
    """What the values of masks mean.

    Attributes:
        classes: class names.
        table: int16 `[256]`, the class of each value; VOID for void, REFUSED for values that name no class.
    """

    classes: tuple[str, ...]
    table: NDArray[np.int16]

    @classmethod
    def of(cls, classes: Sequence[str], *, void: Sequence[int] = (VOID,)) -> Meaning:
        """Value k is class k; the values `void` are void."""
        table = np.full(256, REFUSED, np.int16)
        table[: len(classes)] = np.arange(len(classes))
        table[list(void)] = VOID
        return cls(classes=tuple(classes), table=table)

    def foreground(self) -> Meaning:
        """The same with all classes except the first, the background, merged.

        Raises:
            ConfigError: the first class is not a background.
        """
        if self.classes[0] != "background":
            raise ConfigError(
                "there is no background class to separate the foreground from",
                where="setting `classes`",
                got="foreground",
                expected=f"all; the classes are {', '.join(self.classes[:NUM_NAMED])}",
            )
        merged = np.where((self.table > 0) & (self.table != VOID), 1, self.table).astype(np.int16)
        return Meaning(classes=FOREGROUND_CLASSES, table=merged)

    def of_config(self, config: DataConfig) -> Meaning:
        """All classes, or foreground and background, as the setting `classes` says."""
        return self.foreground() if config.classes == "foreground" else self

    def __call__(self, values: Bytes, where: object) -> Bytes:
        """A mask as stored, uint8 `[H, W]`, in classes: uint8 `[H, W]`.

        Raises:
            ImageError: values without a class; they are named.
        """
        mask = self.table[values]
        if (mask == REFUSED).any():
            wrong = ", ".join(str(int(v)) for v in np.unique(values[mask == REFUSED])[:NUM_NAMED])
            raise ImageError(
                f"mask values without a class: {wrong}",
                where=where,
                got=wrong,
                expected=f"0 to {len(self.classes) - 1}, or {VOID} for void",
            )
        return mask.astype(np.uint8)


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskSource(FileSource):
    """A split of image files, each with a mask.

    `drawn`: one for each image, a PNG file of class numbers or annotations that draw it (`Drawn`).
    """

    drawn: Sequence[Any]
    meaning: Meaning
    has_masks = True

    @property
    def _rows(self) -> tuple[str, ...]:
        return (*super()._rows, "drawn")

    @cached_property
    def content(self) -> str:
        """SHA-256 over the SHA-256 of each image and mask, and over what the values mean."""
        digest = hashlib.sha256(self.meaning.table.tobytes())
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            for part in (*self.digests, *pool.map(_digest, self.drawn)):
                digest.update(part.encode())
        return digest.hexdigest()

    def mask(self, i: int, image: DecodedImage | None = None) -> Bytes:
        """uint8 `[H, W]` of sample `i`, oriented like its upright image, which is decoded here unless given.

        Raises:
            ImageError: it cannot be read, has another size than its image, or contains values without a class.
        """
        image, drawn = image or self.read(i), self.drawn[i]
        height, width = image.size
        stored = (width, height) if image.orientation >= 5 else (height, width)
        if isinstance(drawn, Path):
            values = _turned(read_mask(drawn).indices, (height, width), stored, image.orientation, drawn)
        else:
            values = turn_upright(drawn.draw(*stored), image.orientation)
        return self.meaning(values, drawn if isinstance(drawn, Path) else self.ids[i])


def _digest(drawn: Any) -> str:
    return sha256_file(drawn) if isinstance(drawn, Path) else str(drawn.digest())


def _turned(values: Bytes, upright: tuple[int, int], stored: tuple[int, int], orientation: int, where: Path) -> Bytes:
    """A mask in the orientation of its upright image.

    EXIF says how a photo is rotated, and masks are drawn before or after rotation: the size decides where they differ.

    Raises:
        ImageError: another size, or the two cases are ambiguous.
    """
    if orientation > 1 and upright == stored:
        raise ImageError(
            "the photo is rotated by EXIF, and it is unknown whether its mask was drawn before or after",
            where=where,
            got=f"orientation {orientation}, both {upright[1]}x{upright[0]}",
            do="rotate the photo's pixels and remove the EXIF tag (ImageMagick: mogrify -auto-orient)",
        )
    if values.shape == upright:
        return values
    if values.shape == stored:
        return turn_upright(values, orientation)
    got, expected = f"{values.shape[1]}x{values.shape[0]}", f"{upright[1]}x{upright[0]}"
    raise ImageError(
        "the mask has another size than its image",
        where=where,
        got=got,
        expected=expected,
        do="save the mask at the image's size",
    )


def as_found(
    root: Path,
    name: str,
    meaning: Meaning,
    splits: Mapping[SplitName, Source],
    layout: str,
    pool: Source | None = None,
    *,
    published: bool = False,
    notes: tuple[str, ...] = (),
) -> Found:
    """A data set of masks from what was recognized."""
    return Found(
        name=name,
        task=TASK,
        classes=meaning.classes,
        layout=layout,
        splits=splits,
        pool=pool,
        published=published,
        root=root,
        notes=notes,
    )
