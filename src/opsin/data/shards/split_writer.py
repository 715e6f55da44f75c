"""Writing one split as shards: decoded, to be sure that training can read it, and kept as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from opsin.arrays import Array
from opsin.data.digests import DIGEST_BYTES, digest
from opsin.data.levels import count_levels
from opsin.data.samples import Ints, Source
from opsin.data.shards.index import SplitIndex, Table
from opsin.data.shards.source import ShardSource
from opsin.data.sources import FileSource
from opsin.data.targets import KINDS
from opsin.errors import ImageError, InputError
from opsin.io.arrays import write_npz
from opsin.io.files import sha256_file
from opsin.io.gate import read_bytes
from opsin.io.images import LIMITS, DecodedImage, decode_image, encode_png, format_of
from opsin.io.shards import BLOCK_BYTES, Member, ShardFile, ShardWriter, encode_pixels
from opsin.types import SplitName

AT_ONCE = 64
"""Samples that are decoded before they are written."""
COUNTED_PIXELS = 1 << 18
"""Images of more pixels are not counted value by value: sets of them are rarely of one size."""
SUFFIXES = {"JPEG": "jpg", "PPM": "ppm"}
"""Suffixes of formats, where they are not the format's name in lower case."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sample:
    """A sample that can be read.

    `data`, `suffix`: its image file. `mask`: a grey PNG. `digest`: a hash of its pixels. `levels`: int64 [C, 256],
    how many have each value; None for large images.
    """

    number: int
    data: bytes
    suffix: str
    mask: bytes | None
    size: tuple[int, int]
    digest: bytes
    levels: Ints | None


@dataclass(kw_only=True)
class _Row:
    """Where a sample was written."""

    sample: _Sample
    shard: int
    image: Member
    mask: Member | None


@dataclass(kw_only=True)
class SplitWriter:
    """Writes one split.

    Attributes:
        folder: where the shards are written.
        split: its name, with which their names begin.
        source: its samples.
        max_bytes: a shard is ended before it grows beyond this; it holds one sample at least.
        failures: samples that cannot be read, by number, with the reason.
    """

    folder: Path
    split: SplitName
    source: Source
    max_bytes: int
    failures: list[tuple[int, str]] = field(default_factory=list)
    _tables: list[Table] = field(default_factory=list)
    _shards: list[ShardFile] = field(default_factory=list)
    _tar: ShardWriter | None = None
    _levels: Ints | None = None
    _size: tuple[int, int] | None = None
    _count: int = 0

    @property
    def raw(self) -> bool:
        """Whether images are written as pixels, since there are no files of them."""
        source = self.source
        return source.raw if isinstance(source, ShardSource) else not isinstance(source, FileSource)

    def write(self, order: Ints) -> Iterator[int]:
        """Write the samples with these numbers, int64 [N], in this order; gives how many are done.

        Raises:
            OSError: the disk is full or faulty.
        """
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool, self._abandoned_on_error():
            for start in range(0, len(order), AT_ONCE):
                numbers = order[start : start + AT_ONCE].tolist()
                found = map(self._read, numbers) if self.raw else pool.map(self._read, numbers)
                self._append([sample for sample in found if sample is not None])
                yield start + len(numbers)
            self._end_shard()

    def ended(self, num_classes: int) -> SplitIndex:
        """Write the table, once all samples are; returns what the index says of the split.

        Raises:
            WriteError: the disk is full or faulty.
        """
        table = _joined(self._tables)
        path = self.folder / f"{self.split}.npz"
        write_npz(path, table.arrays())
        counts = (KINDS[kind].counts(rows, num_classes) for kind, rows in table.targets.items())
        found = next((rows for rows in counts if rows is not None), None)
        return SplitIndex(
            samples=self._count,
            channels=self.source.channels,
            raw=self.raw,
            masks=table.masks is not None,
            table=ShardFile(name=path.name, num_bytes=path.stat().st_size, sha256=sha256_file(path)),
            shards=tuple(self._shards),
            counts=None if found is None else tuple(found.tolist()),
            levels=None if self._levels is None else tuple(tuple(row) for row in self._levels.tolist()),
        )

    @contextmanager
    def _abandoned_on_error(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._tar is not None:
                self._tar.abandon()

    def _read(self, i: int) -> _Sample | None:
        """Sample `i`; None where it cannot be read, which is kept."""
        try:
            data, suffix, image = self._image(i)
            mask = self.source.mask(i, image)
        except InputError as error:
            self.failures.append((i, error.what))
            return None
        pixels = image.pixels[: self.source.channels]
        return _Sample(
            number=i,
            data=data,
            suffix=suffix,
            mask=None if mask is None else encode_png(np.ascontiguousarray(mask)[None]),
            size=image.size,
            digest=digest(pixels),
            levels=count_levels(pixels[None]) if pixels[0].size <= COUNTED_PIXELS else None,
        )

    def _image(self, i: int) -> tuple[bytes, str, DecodedImage]:
        """The image file of sample `i`, its suffix, and what it shows."""
        source, name = self.source, self.source.ids[i]
        if isinstance(source, FileSource):
            data = read_bytes(source.paths[i], ImageError, LIMITS.max_bytes)
        elif isinstance(source, ShardSource) and not source.raw:
            data = source.stored(i)
        else:
            image = source.read(i)
            return encode_pixels(image.pixels[: source.channels]), "npy", image
        kind = format_of(data, name)
        return data, SUFFIXES.get(kind, kind.lower()), decode_image(data, name)

    def _append(self, samples: Sequence[_Sample]) -> None:
        """Write samples and keep their rows."""
        if not samples:
            return
        rows = [self._written(sample) for sample in samples]
        self._tables.append(_table_of(rows, self.source))
        self._count_levels(samples)

    def _written(self, sample: _Sample) -> _Row:
        """Write one sample to the shard, or to the next one where it is full."""
        key = f"{self._count:09d}"
        others = [(f"{key}.{suffix}", data) for suffix, data in _target_files(self.source, sample.number)]
        tar = self._tar_with_room(len(sample.data) + len(sample.mask or b"") + 2 * BLOCK_BYTES * (len(others) + 2))
        image = tar.add(f"{key}.{sample.suffix}", sample.data)
        mask = None if sample.mask is None else tar.add(f"{key}.mask.png", sample.mask)
        for name, data in others:
            tar.add(name, data)
        self._count += 1
        return _Row(sample=sample, shard=len(self._shards), image=image, mask=mask)

    def _tar_with_room(self, num_bytes: int) -> ShardWriter:
        if self._tar is not None and self._tar.num_bytes + num_bytes > self.max_bytes:
            self._end_shard()
        if self._tar is None:
            self._tar = ShardWriter(self.folder / self._name())
        return self._tar

    def _name(self) -> str:
        return f"{self.split}-{len(self._shards):06d}.tar"

    def _end_shard(self) -> None:
        if self._tar is not None:
            name, sha256 = self._name(), self._tar.close()
            self._shards.append(ShardFile(name=name, num_bytes=self._tar.num_bytes, sha256=sha256))
            self._tar = None

    def _count_levels(self, samples: Sequence[_Sample]) -> None:
        """Add how many pixels have each value, as long as all images have one size."""
        first = self._size is None
        self._size = self._size or samples[0].size
        if first:
            self._levels = np.zeros((self.source.channels, 256), np.int64)
        for sample in samples:
            if self._levels is None or sample.levels is None or sample.size != self._size:
                self._levels = None
                return
            self._levels += sample.levels


def _target_files(source: Source, i: int) -> Iterator[tuple[str, bytes]]:
    """The members that hold the targets of sample `i` for other readers: `.cls`, and `.json` where there are more."""
    found = {kind: rows[i].tolist() for kind, rows in source.targets.items() if not KINDS[kind].with_images}
    if "labels" in found:
        yield "cls", str(found["labels"]).encode()
    if found.keys() - {"labels"}:
        yield "json", json.dumps(found).encode()


def _table_of(rows: Sequence[_Row], source: Source) -> Table:
    """The rows of a table of samples that were written."""
    numbers = np.array([row.sample.number for row in rows], np.int64)
    places = np.array([_place(row.image) for row in rows], np.int64)
    masks = [_place(row.mask) for row in rows if row.mask is not None]
    ids = [source.ids[row.sample.number].encode() for row in rows]
    return Table(
        shard=np.array([row.shard for row in rows], np.int32),
        places=places,
        sizes=np.array([row.sample.size for row in rows], np.int32),
        digests=np.frombuffer(b"".join(row.sample.digest for row in rows), np.uint8).reshape(-1, DIGEST_BYTES),
        names=np.frombuffer(b"".join(ids), np.uint8),
        ends=np.cumsum([len(name) for name in ids], dtype=np.int64),
        masks=np.array(masks, np.int64) if masks else None,
        targets={
            kind: np.asarray(found[numbers]) for kind, found in source.targets.items() if not KINDS[kind].with_images
        },
    )


def _place(member: Member) -> tuple[int, int, int]:
    return member.offset, member.length, member.crc


def _joined(tables: Sequence[Table]) -> Table:
    """Several tables as one."""
    starts = np.cumsum([0, *(len(table.names) for table in tables[:-1])])
    masks = [table.masks for table in tables if table.masks is not None]

    def all_of(name: str) -> Array:
        return np.concatenate([getattr(table, name) for table in tables])

    return Table(
        shard=all_of("shard"),
        places=all_of("places"),
        sizes=all_of("sizes"),
        digests=all_of("digests"),
        names=all_of("names"),
        ends=np.concatenate([table.ends + start for table, start in zip(tables, starts, strict=True)]),
        masks=np.concatenate(masks) if masks else None,
        targets={kind: np.concatenate([table.targets[kind] for table in tables]) for kind in tables[0].targets},
    )
