"""A split in shards: its targets in memory, its images where they lie until they are looked at.

`ShardSource` is what data sets hold. `ShardPixels` takes the place of packed pixels: rows of it are read, decoded and
fitted when they are asked for, so that what is in memory is the batches that are being made, however large the set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from opsin.data.parallel import for_each
from opsin.data.samples import Bytes, Ints
from opsin.data.sources import Annotated
from opsin.io.images import DecodedImage, Sides, decode_image
from opsin.io.shards import Member, SeveralShards, ShardFiles, decode_pixels, decode_plane
from opsin.ops.resize import fit_image, resampled_size
from opsin.types import SizePolicy

SERIAL_BYTES = 1 << 18
"""Files of fewer bytes together are decoded one after the other: threads would take longer to start."""


IN_A_ROW = 32
"""Samples that are asked for one after the other, from where on whole shards are fetched from a store."""


class Names(Sequence[str]):
    """N texts as one: `text` UTF-8 uint8 [total], `ends` int64 [N]. A million ids as Python text take 80 MB more."""

    def __init__(self, text: Bytes, ends: Ints) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        i = range(len(self))[i]
        start = int(self._ends[i - 1]) if i else 0
        return self._text[start : int(self._ends[i])].tobytes().decode("utf-8", "replace")


def joined_shards(sources: Sequence[ShardSource]) -> dict[str, object]:
    """The fields of several sources as one that say where its images lie; parts of one set stay in its shards."""
    first = sources[0]
    if all(source.files is first.files for source in sources):
        return {"levels": None}
    counts = [int(source.shard.max(initial=-1)) + 1 for source in sources]
    starts = np.cumsum([0, *counts[:-1]], dtype=np.int32)
    shard = np.concatenate([source.shard + start for source, start in zip(sources, starts, strict=True)])
    files = SeveralShards([source.files for source in sources], counts)
    return {"levels": None, "shard": shard, "files": files}


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardSource(Annotated):
    """A split in shards.

    Attributes:
        files: the shards.
        raw: images are pixels in `.npy`, not image files.
        channels: 3 for RGB, 1 for grey.
        shard: int32 [N], the number of each sample's shard.
        places: int64 [N, 3], offset, length and CRC-32 of its image.
        mask_places: int64 [N, 3], the same of its mask; None without masks.
        sizes: int32 [N, 2], height and width of the image, upright.
        digests: uint8 [N, 16], a hash of its decoded pixels.
        levels: int64 [C, 256], how many pixels of each channel have each value; None where that is not known.
    """

    files: ShardFiles
    raw: bool
    channels: int
    shard: NDArray[np.int32]
    places: Ints
    sizes: NDArray[np.int32]
    digests: Bytes
    mask_places: Ints | None = None
    levels: Ints | None = None

    def __post_init__(self) -> None:
        """Ids were checked when they were written: a million of them are not looked at again."""

    @property
    def _rows(self) -> tuple[str, ...]:
        return (*super()._rows, "shard", "places", "sizes", "digests", "mask_places")

    def take(self, indices: Ints) -> Self:
        """The samples of these numbers, in this order; levels are known of all of them together alone."""
        whole = len(indices) == len(self) == len(np.unique(indices))
        return replace(super().take(indices), levels=self.levels if whole else None)

    @property
    def has_masks(self) -> bool:
        """Whether each image has a mask."""
        return self.mask_places is not None

    @cached_property
    def size(self) -> tuple[int, int] | None:
        """Height and width that all images share, or None."""
        if not len(self.sizes) or (self.sizes != self.sizes[0]).any():
            return None
        return int(self.sizes[0, 0]), int(self.sizes[0, 1])

    @cached_property
    def content(self) -> str:
        """SHA-256 over the hash of each image and the CRC-32 of each mask, in order."""
        digest = hashlib.sha256(np.ascontiguousarray(self.digests).data)
        if self.mask_places is not None:
            digest.update(np.ascontiguousarray(self.mask_places[:, 1:]).data)
        return digest.hexdigest()

    def image(self, i: int) -> Bytes:
        """uint8 `[C, H, W]` of sample `i`.

        Raises:
            ArchiveError: its shard is missing or was changed.
        """
        pixels: Bytes = self.read(i).pixels
        return pixels[: self.channels]

    def read(self, i: int, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
        """Sample `i`, of 8 bits; with `sides`, not many more pixels than these need.

        Raises:
            ArchiveError: its shard is missing or was changed.
        """
        data = self.stored(i)
        if not self.raw:
            return decode_image(data, self.ids[i], sides=sides)
        height, width = self.sizes[i].tolist()
        return DecodedImage(pixels=decode_pixels(data, self.ids[i], (height, width), self.channels))

    def mask(self, i: int, image: DecodedImage | None = None) -> Bytes | None:
        """uint8 `[H, W]` of sample `i`, or None.

        Raises:
            ArchiveError: its shard is missing or was changed.
        """
        return None if self.mask_places is None else decode_plane(self._bytes(i, self.mask_places), self.ids[i])

    def stored(self, i: int) -> bytes:
        """The bytes of the image file of sample `i`.

        Raises:
            ArchiveError: its shard is missing or was changed.
        """
        return self._bytes(i, self.places)

    def _bytes(self, i: int, places: Ints) -> bytes:
        offset, length, crc = places[i].tolist()
        return self.files.read(int(self.shard[i]), Member(offset=offset, length=length, crc=crc))


class ShardPixels:
    """Images of a source in the frame of a network, uint8 [N, C, H, W], as rows of an array that is not there.

    Rows are decoded when they are taken by numbers; a slice is again such an array. `np.asarray` decodes all.

    Args:
        source: the split.
        policy: the frame.
        rows: int64 [n], which samples; None is all.
    """

    def __init__(self, source: ShardSource, policy: SizePolicy, *, rows: Ints | None = None) -> None:
        self.source, self.policy = source, policy
        self.rows = np.arange(len(source)) if rows is None else rows
        self._frame = (policy.height, policy.width)
        self._sides = resampled_size(policy)

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, C, H, W]."""
        return (len(self.rows), self.source.channels, *self._frame)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of the array, were it there."""
        return int(np.prod(self.shape))

    @property
    def shards(self) -> NDArray[np.int32]:
        """The shard of each row, int32 [n]."""
        return self.source.shard[self.rows]

    @property
    def levels(self) -> Ints | None:
        """How many pixels of each channel have each value, int64 [C, 256]; None where that is not known."""
        whole = len(self.rows) == len(self.source) and self.source.size == self._frame and self.policy.crop_share == 1
        return self.source.levels if whole else None

    @property
    def content(self) -> str:
        """SHA-256 of what the rows show, and of the frame."""
        content = self.source.take(self.rows).content
        return hashlib.sha256(repr((content, self.policy)).encode()).hexdigest()

    def reading(self, order: Ints) -> Callable[[int, int], None]:
        """A function to be told from which place to which of `order`, int64 [m], rows are taken next.

        The shards that are needed for these, and those that begin within the length of one after them, are expected.
        """
        shards = self.source.shard[self.rows[order]]
        first, last = np.full(int(shards.max()) + 1, len(order)), np.full(int(shards.max()) + 1, -1)
        np.minimum.at(first, shards, np.arange(len(order)))
        np.maximum.at(last, shards, np.arange(len(order)))
        ahead = -(-len(order) // max(1, int((last >= 0).sum())))

        def told(start: int, stop: int) -> None:
            needed = np.flatnonzero((first < stop + ahead) & (last >= start))
            self.source.files.expect(needed[np.argsort(first[needed], kind="stable")].tolist())

        return told

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Bytes]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, rows: int, /) -> Bytes: ...
    @overload
    def __getitem__(self, rows: Ints, /) -> Bytes: ...
    @overload
    def __getitem__(self, rows: slice, /) -> ShardPixels: ...
    def __getitem__(self, rows: int | Ints | slice, /) -> Bytes | ShardPixels:
        if isinstance(rows, slice):
            return ShardPixels(self.source, self.policy, rows=self.rows[rows])
        if isinstance(rows, np.ndarray):
            return self.decoded(self.rows[rows])
        return self._one(int(self.rows[rows]))

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return self.decoded(self.rows)

    def decoded(self, numbers: Ints) -> Bytes:
        """The samples of the source with these numbers, int64 [n], decoded: uint8 [n, ...].

        Raises:
            ArchiveError: a shard is missing or was changed.
        """
        found = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        if len(numbers) >= IN_A_ROW and numbers[-1] - numbers[0] == len(numbers) - 1:
            self.source.files.expect(self._in_a_row(int(numbers[0]), int(numbers[-1])))

        def decode(k: int) -> None:
            found[k] = self._one(int(numbers[k]))

        if self.source.raw or self.source.places[numbers, 1].sum() < SERIAL_BYTES:
            for k in range(len(numbers)):
                decode(k)
        else:
            for_each(decode, len(numbers))
        return found

    def _in_a_row(self, first: int, last: int) -> list[int]:
        """The shards of the samples from `first` to `last`, and the one after them."""
        shards = np.unique(self.source.shard[first : last + 1]).tolist()
        return [*shards, *np.unique(self.source.shard[self.source.shard > shards[-1]])[:1].tolist()]

    def _one(self, i: int) -> Bytes:
        image = self.source.read(i, self._sides)
        pixels = image.pixels[: self.source.channels]
        if pixels.shape[1:] == self._frame == image.size and self.policy.crop_share == 1:
            return pixels
        return fit_image(pixels, self.policy, image.size)
