"""Data sets: sources that decode one image at a time, and packed samples.

Images are uint8 `[C, H, W]`, C = 3 (RGB) or 1 (grey); uint16 where 16 bits are kept (`SizePolicy`). Boxes are float32
xyxy in pixels. Masks are uint8, 255 = void.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.config import DataConfig
from opsin.data.file_facts import NO_IMAGE, NOT_SEEN, FileFacts, facts_of_files
from opsin.data.targets import EARLIEST, IN_MEMORY, KINDS, TargetFields
from opsin.errors import ImageError
from opsin.io.caches import default_cache
from opsin.io.files import sha256_file
from opsin.io.images import SIDEWAYS, DecodedImage, Sides, read_bits, read_image, read_size
from opsin.progress import Reporter
from opsin.text import is_text, text_of
from opsin.types import SizePolicy, SplitName, TaskName

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Boxes = NDArray[np.float32]
HASHING_THREADS = 8
FIRST_HEADERS = 100
"""Files whose headers are read before all are: photos differ in size among these."""


class LazyPixels(Protocol):
    """Rows of pixels, uint8 `[N, ...]`, that are decoded when they are looked at (`data/shards/source.py`).

    A row, or rows by their numbers, are arrays in memory; a slice is decoded as late as the whole.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, ...]."""

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, were they in memory."""

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""

    @property
    def shards(self) -> NDArray[np.int32]:
        """The shard of each row, int32 `[N]`: those of one shard are read one after the other."""

    @property
    def levels(self) -> Ints | None:
        """How many pixels of each channel have each value, int64 `[C, 256]`; None where that is not known."""

    @property
    def content(self) -> str:
        """SHA-256 of what the rows show."""

    def reading(self, order: Ints) -> Callable[[int, int], None]:
        """A function to be told from which place to which of `order`, int64 `[n]`, rows are taken next."""

    def __len__(self) -> int:
        """N."""

    def __iter__(self) -> Iterator[Bytes]:
        """The rows, one at a time."""

    @overload
    def __getitem__(self, rows: int, /) -> Bytes: ...
    @overload
    def __getitem__(self, rows: Ints, /) -> Bytes: ...
    @overload
    def __getitem__(self, rows: slice, /) -> LazyPixels: ...

    def __array__(self) -> Bytes:
        """All rows in memory."""


Pixels: TypeAlias = Array | LazyPixels
"""An array, a memory map, or rows that are decoded when they are looked at."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples(TargetFields[Array]):
    """One split, ready to be batched; its targets, boxes in pixels of `images`, are those of `TargetFields`.

    Attributes:
        images: uint8 `[N, C, H, W]`, in memory, a read-only memory map, or in shards (`data/shards`); or uint16.
        ids: the display name of each sample: "train/00017", "roses/12.jpg".
        sizes: int32 `[N, 2]`, height and width before packing.
        notes: changes made to the samples on the way.
        skipped: ids of samples that could not be read and were left out on request.
        larger: the same samples in more pixels, for augmentation that crops or zooms; None where there are none.
    """

    images: Pixels
    ids: Sequence[str]
    sizes: NDArray[np.int32]
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    larger: Samples | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def to_augment(self) -> Samples:
        """The samples that training batches are made of: the larger ones, where there are any."""
        return self.larger or self

    def take(self, rows: Ints) -> Samples:
        """The samples of these numbers, in this order, in memory."""
        return replace(
            self,
            images=np.asarray(self.images[rows]),
            ids=[self.ids[i] for i in rows],
            sizes=self.sizes[rows],
            larger=None if self.larger is None else self.larger.take(rows),
            **self.mapped(lambda _, values: np.asarray(values[rows])),
        )


class Source(Protocol):
    """One split as its publisher lays it out; decodes lazily."""

    @property
    def ids(self) -> Sequence[str]:
        """The display name of each sample."""

    @property
    def labels(self) -> Ints | None:
        """int64 `[N]`, or None."""

    @property
    def boxes(self) -> Boxes | None:
        """float32 `[N, 4]` xyxy in pixels of the undecoded image, or None."""

    @property
    def targets(self) -> Mapping[str, Array]:
        """All targets in memory, by kind; boxes are in pixels of the undecoded image."""

    @property
    def groups(self) -> Sequence[str] | None:
        """Samples of one group (a patient, a film) are never in two splits; None without groups."""

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that all images share, or None."""

    @property
    def content(self) -> str:
        """SHA-256 over the images and masks, in order; labels and ids do not count."""

    def __len__(self) -> int:
        """Number of samples."""

    def image(self, i: int) -> Bytes:
        """uint8 `[C, H, W]` of sample `i`.

        Raises:
            InputError: the bytes cannot be decoded.
        """

    def read(self, i: int, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
        """Sample `i` with notes on what decoding did to it; with `sides`, not many more pixels than these need.

        With `bits` of 16, uint16 where the file has them.

        Raises:
            InputError: the bytes cannot be decoded.
        """

    def mask(self, i: int, image: DecodedImage | None = None) -> Bytes | None:
        """uint8 `[H, W]` of sample `i`, or None.

        `image` is what `read(i)` gave, where the caller has it already: which saves decoding it again.

        Raises:
            InputError: the mask cannot be read, or does not fit its image.
        """

    def take(self, indices: Ints) -> Source:
        """The samples of these numbers, in this order."""


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
            if names is not None and not all(map(is_text, names)):
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
        first = range(min(len(self), FIRST_HEADERS)) if "facts" not in vars(self) else range(0)
        found = self._sizes(first)
        if len(found) <= 1 and len(first) < len(self):
            known = np.unique(self.facts.sizes, axis=0)
            found |= {(int(height), int(width)) for height, width in known} - {NO_IMAGE, NOT_SEEN}
        if len(found) <= 1 and len(first) < len(self):
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
        """SHA-256 of each file as hexadecimal digits.

        Raises:
            InputError: a file cannot be read.
        """
        known = self.facts.digests
        return [digest or sha256_file(path) for digest, path in zip(known, self.paths, strict=True)]

    @cached_property
    def bits(self) -> int:
        """16 where any file, PNG or TIFF, has more than 8 bits a channel, else 8; the search stops at the first."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Named splits of one task over one list of classes.

    Attributes:
        classes: class names; a label is an index into them.
        splits: sources by split, in the order train, val, test.
        layout: the recognized layout.
        published: a published set: leaks are reported, not refused.
        undivided: its publisher gives no splits: they were drawn, or all samples are `test`.
        root: folder or file that it was read from, or None.
        near_copies_kept: near copies were searched for, and all splits drawn so that none is in two.
        notes: what a user should know about how it was read, e.g. drawn splits.
        source, given_root, config: the arguments of `load`, so that it can be loaded again.
    """

    name: str
    task: TaskName
    classes: tuple[str, ...]
    splits: Mapping[SplitName, Source]
    layout: str
    published: bool = False
    undivided: bool = False
    root: Path | None = None
    notes: tuple[str, ...] = ()
    description: str = field(default="")
    source: str = ""
    given_root: str | None = None
    config: DataConfig | None = None
    near_copies_kept: bool = False

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return max(source.channels for source in self.splits.values())

    @property
    def bits(self) -> int:
        """Bits a channel of the training images: 16 where any file has more than 8, else 8."""
        return int(getattr(self.splits.get("train"), "bits", 8))

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that all images of all splits share, or None."""
        sizes = {source.size for source in self.splits.values()}
        return sizes.pop() if len(sizes) == 1 else None

    def counts(self) -> dict[SplitName, list[int]]:
        """Samples of each class in each split, where the targets in memory name classes."""
        return {
            name: counts.tolist()
            for name, source in self.splits.items()
            if (counts := class_counts(source, len(self.classes))) is not None
        }

    def fingerprint(self) -> str:
        """SHA-256 over classes and, for each split, ids, targets and images."""
        digest = hashlib.sha256(json.dumps([self.task, self.classes]).encode())
        for name, source in self.splits.items():
            digest.update(json.dumps([name, list(source.ids), source.content]).encode())
            for kind in IN_MEMORY:
                array = source.targets.get(kind)
                if array is not None or kind in EARLIEST:
                    digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(source):,}" for name, source in self.splits.items())
        return f"Dataset({self.name}: {self.task}, {len(self.classes)} classes, {sizes})"


def _bits(path: Path) -> int:
    try:
        return read_bits(path)
    except ImageError:
        return 8  # named when the split is packed


def class_counts(source: Source | Samples, num_classes: int) -> Ints | None:
    """Samples of each class, int64 [K], by the first kind of target that names classes; None where none does."""
    found = (KINDS[kind].counts(rows, num_classes) for kind, rows in source.targets.items())
    return next((counts for counts in found if counts is not None), None)


def holds_masks(source: Source) -> bool:
    """Whether a source has a mask for each image, in memory or decoded with it."""
    return getattr(source, "masks", None) is not None or getattr(source, "has_masks", False)


def chunks(num_samples: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `num_samples`, in order."""
    return (slice(start, min(start + size, num_samples)) for start in range(0, num_samples, size))


def numbered_ids(split: str, num_samples: int) -> list[str]:
    """Generated names of samples.

    >>> numbered_ids("train", 2)
    ['train/00000', 'train/00001']
    """
    width = max(5, len(str(num_samples - 1)))
    return [f"{split}/{i:0{width}d}" for i in range(num_samples)]


def _taken(rows: Any, indices: Ints) -> Any:
    """Rows of an array or a sequence by number; None stays None."""
    if rows is None:
        return None
    return rows[indices] if isinstance(rows, np.ndarray) else [rows[i] for i in indices]
