"""Sources: splits as their publishers lay them out, in memory or in files, decoded one image at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.data.file_facts import NO_IMAGE, NOT_SEEN, FileFacts, facts_of_files
from opsin.data.samples import Bytes, Ints
from opsin.data.targets import KINDS, TargetFields
from opsin.errors import ImageError
from opsin.io.caches import default_cache
from opsin.io.images import SIDEWAYS, DecodedImage, Sides, read_bits, read_image, read_size
from opsin.io.walking import PathsBelow
from opsin.progress import Reporter
from opsin.text import is_text, text_of
from opsin.types import SizePolicy

FIRST_HEADERS = 100
"""Files whose headers are read before all are: photos differ in size among these."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedRows:
    """Samples that were decoded at one size before: whoever packs some of them again copies their rows.

    Attributes:
        policy: the frame that they were fitted into.
        images: uint8 `[M, C, H, W]` of those that could be read.
        decoded: targets that are decoded with images, by kind, `[M, H, W]`.
        sizes: int32 `[M, 2]`, height and width before.
        row_of: int64 `[N]`, the row of each sample, -1 where it could not be read.
        failures: why it could not, by sample number.
    """

    policy: SizePolicy
    images: Bytes
    decoded: Mapping[str, Bytes]
    sizes: NDArray[np.int32]
    row_of: Ints
    failures: Mapping[int, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotated(TargetFields[Array]):
    """What both kinds of source store about their samples, except pixels.

    Ids and groups are text: file names that are not UTF-8 are written as `text_of` does. `packed`: rows of the samples
    of which these are some, one for each size that they were decoded at, `numbers_packed` int64 `[N]`.
    """

    ids: Sequence[str]
    groups: Sequence[str] | None = None
    packed: tuple[PackedRows, ...] = ()
    numbers_packed: Ints | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "groups"):
            names = getattr(self, name)
            if names is not None and not is_text("".join(names)):
                object.__setattr__(self, name, [text_of(value) for value in names])

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Ints) -> Self:
        """The samples of these numbers, in this order."""
        return replace(
            self, **{name: _taken(value, indices) for name, value in vars(self).items() if name in self._rows}
        )

    @property
    def bits(self) -> int:
        """Bits a channel of its images: 8."""
        return 8

    @property
    def _rows(self) -> tuple[str, ...]:
        """Fields with one row for each sample."""
        return ("ids", "groups", "numbers_packed", *KINDS)


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource(Annotated):
    """A split in memory: `images` uint8 `[N, C, H, W]`."""

    images: Bytes

    @property
    def _rows(self) -> tuple[str, ...]:
        return (*super()._rows, "images")

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return int(self.images.shape[1])

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that all images share."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    @cached_property
    def content(self) -> str:
        """SHA-256 over shapes and bytes of images and of the targets that are decoded with them."""
        digest = hashlib.sha256()
        for array in (self.images, *(rows for kind, rows in self.targets.items() if KINDS[kind].with_images)):
            if array is not None:
                digest.update(repr(array.shape).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def image(self, i: int) -> Bytes:
        """uint8 `[C, H, W]` of sample `i`."""
        pixels: Bytes = self.images[i]
        return pixels

    def read(self, i: int, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
        """Sample `i`; nothing is done to it."""
        return DecodedImage(pixels=self.images[i])

    def mask(self, i: int, image: DecodedImage | None = None) -> Bytes | None:
        """uint8 `[H, W]` of sample `i`, or None."""
        return None if self.masks is None else self.masks[i]


@dataclass(frozen=True, kw_only=True, eq=False)
class FileSource(Annotated):
    """A split of image files, decoded on request."""

    paths: Sequence[Path]

    @property
    def _rows(self) -> tuple[str, ...]:
        return (*super()._rows, "paths")

    @property
    def channels(self) -> int:
        """Always 3: files are decoded to RGB."""
        return 3

    @cached_property
    def size(self) -> tuple[int, int] | None:
        """Height and width that all files share, by their headers.

        Of photos the first few differ, so that no other file is looked at.
        """
        if "facts" not in vars(self) and len(self._sizes(range(min(len(self), FIRST_HEADERS)))) > 1:
            return None
        sizes = np.unique(self.facts.sizes, axis=0).tolist()
        found = {(height, width) for height, width in sizes} - {NO_IMAGE, NOT_SEEN}
        if len(found) <= 1:
            found |= self._sizes(np.flatnonzero((self.facts.sizes == NOT_SEEN).all(1)).tolist())
        return found.pop() if len(found) == 1 else None

    def _sizes(self, numbers: Iterable[int]) -> set[tuple[int, int]]:
        """Sizes of these files; the scan stops at the first difference."""
        found: set[tuple[int, int]] = set()
        for i in numbers:
            with suppress(ImageError):  # named when the split is packed
                height, width, orientation = read_size(self.paths[i])
                found.add((width, height) if orientation >= SIDEWAYS else (height, width))
            if len(found) > 1:
                break
        return found

    @cached_property
    def facts(self) -> FileFacts:
        """What the files are known by, without decoding them."""
        return facts_of_files(self.paths, cache=default_cache())

    def read_facts(self, cache: Path | None, report: Reporter) -> FileFacts:
        """`facts`, with a cache of one's own, or none, and progress shown while files are read."""
        if "facts" not in vars(self):
            vars(self)["facts"] = facts_of_files(self.paths, cache=cache, report=report)
        return self.facts

    def take(self, indices: Ints) -> Self:
        """The samples of these numbers, in this order, with what is known of their files."""
        taken = super().take(indices)
        if "facts" in vars(self):
            vars(taken)["facts"] = self.facts.take(indices)
        return taken

    @property
    def digests(self) -> Sequence[str]:
        """SHA-256 of each file as hexadecimal digits; of one that cannot be read, which packing names, its id."""
        return [digest or f"unread {name}" for digest, name in zip(self.facts.digests, self.ids, strict=True)]

    @cached_property
    def bits(self) -> int:
        """16 where any file, PNG or TIFF, has more than 8 bits a channel, else 8; the search stops at the first."""
        if "facts" in vars(self):
            return 16 if self.facts.deep.any() else 8
        return 16 if any(_bits(path) == 16 for path in self.paths) else 8

    @cached_property
    def content(self) -> str:
        """SHA-256 over the SHA-256 of each file."""
        return hashlib.sha256("".join(self.digests).encode()).hexdigest()

    def image(self, i: int) -> Bytes:
        """uint8 `[3, H, W]` of file `i`.

        Raises:
            ImageError: the file cannot be decoded.
        """
        return self.read(i).pixels

    def read(self, i: int, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
        """File `i` with notes on what decoding did to it; with `sides`, not many more pixels than these need.

        With `bits` of 16, uint16 where the file has them.

        Raises:
            ImageError: the file cannot be decoded.
        """
        return read_image(self.paths[i], sides=sides, bits=bits)

    def mask(self, i: int, image: DecodedImage | None = None) -> Bytes | None:
        """None: files of class folders have no masks."""
        return None


def _bits(path: Path) -> int:
    try:
        return read_bits(path)
    except ImageError:
        return 8  # named when the split is packed


def _taken(rows: Any, indices: Ints) -> Any:
    """Rows of an array or a sequence by number; None stays None."""
    if rows is None:
        return None
    if isinstance(rows, PathsBelow):
        return rows.take(indices.tolist())
    return rows[indices] if isinstance(rows, np.ndarray) else [rows[i] for i in indices]
