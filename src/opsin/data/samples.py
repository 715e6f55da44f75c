"""Data sets: sources that decode one image at a time, and packed samples.

Images are uint8 `[C, H, W]`, C = 3 (RGB) or 1 (grey); uint16 where 16 bits are kept (`SizePolicy`). Boxes are float32
xyxy in pixels. Masks are uint8, 255 = void.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.config import DataConfig
from opsin.data.targets import EARLIEST, IN_MEMORY, KINDS, TargetFields
from opsin.io.images import DecodedImage, Sides
from opsin.types import SplitName, TaskName

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Boxes = NDArray[np.float32]


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
