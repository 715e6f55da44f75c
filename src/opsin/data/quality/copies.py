"""Copies in an undivided data set, found before packing, so that drawn splits keep them together.

The hash of a file (`data/file_facts.py`) identifies exact copies and, with the seed, determines the draw
(`data/splits.py`), so that a folder and a table of the same files are divided equally; a thumbnail, cheap to decode
from JPEG, identifies near copies. These are cached, keyed by the hashes of all files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opsin.data.parallel import for_each
from opsin.data.quality.near import THUMB, near_pairs
from opsin.data.samples import Bytes, Ints, Source
from opsin.data.shards.source import ShardSource
from opsin.data.sources import ArraySource, FileSource
from opsin.errors import ImageError, InputError, WriteError
from opsin.io.gate import read_bytes
from opsin.io.images import LIMITS, decode_thumbnail
from opsin.io.sealed import read_sealed_json, write_sealed_json
from opsin.progress import QUIET, Reporter

FORMAT = 3
MAX_NEAR = 20_000
"""Largest number of images for which near copies are searched for before a draw: the work grows quadratically."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Groups of copies among N samples.

    Attributes:
        exact: for each sample the index of the representative of all with the same bytes, int64 `[N]`.
        near: the same for all that show the same scene, exact copies included; None if not searched for.
        keys: for each sample the key of its content (SHA-256 of a file); None where samples only have an order.
    """

    exact: Ints
    near: Ints | None
    keys: Sequence[str] | None = None

    @property
    def num_exact(self) -> int:
        """Number of samples with an exact copy that represents them."""
        return len(self.exact) - len(np.unique(self.exact))

    @property
    def num_near(self) -> int:
        """Number of samples with a near copy that is not exact."""
        if self.near is None:
            return 0
        sizes = np.bincount(self.near[np.unique(self.exact)], minlength=len(self.near))
        return int(sizes[sizes > 1].sum())


def find_copies(source: Source, *, cache: Path | None = None, report: Reporter = QUIET) -> Copies:
    """Exact copies in `source`, and near copies for at most `MAX_NEAR` image files.

    Files are compared by bytes, arrays by pixels; equal pictures in different files count as near copies. An unreadable
    file has no copies here: it is named when the data set is packed.

    Args:
        cache: folder for the result of reading all files; None reads them again.
        report: shows progress.
    """
    if isinstance(source, FileSource):
        return _copies_of_files(source, cache, report)
    keys = [_pixel_hash(source, i) for i in range(len(source))]
    return Copies(exact=_representatives(keys, keys), near=None)


def _pixel_hash(source: Source, i: int) -> str:
    if isinstance(source, ShardSource):
        return bytes(source.digests[i]).hex()
    if not isinstance(source, ArraySource):
        return str(i)
    return hashlib.blake2b(np.ascontiguousarray(source.images[i]).data, digest_size=16).hexdigest()


def _copies_of_files(source: FileSource, cache: Path | None, report: Reporter) -> Copies:
    digests = source.read_facts(cache, report).digests
    keys = [digest or f"unread {name}" for digest, name in zip(digests, source.ids, strict=True)]
    exact = _representatives(keys, keys)
    near = None if len(source) > MAX_NEAR else _linked(exact, _near_pairs(source, keys, cache, report), keys)
    return Copies(exact=exact, near=near, keys=keys)


def _near_pairs(source: FileSource, keys: Sequence[str], cache: Path | None, report: Reporter) -> list[list[int]]:
    """Pairs of near copies, numbers of the first and of the second ones; from the cache for files of these keys."""
    state = hashlib.sha256(repr((FORMAT, THUMB, *keys)).encode()).hexdigest()[:32]
    entry = None if cache is None else cache / "copies" / f"{state}.json"
    known = None if entry is None else _kept(entry)
    if known is None:
        pairs = near_pairs(_thumbnails(source, report))
        known = [pairs.first.tolist(), pairs.second.tolist()]
        if entry is not None and all(source.facts.digests):
            with suppress(OSError, WriteError):  # the cache only saves time
                entry.parent.mkdir(parents=True, exist_ok=True)
                write_sealed_json(entry, known)
    return known


def _kept(entry: Path) -> list[list[int]] | None:
    """The pairs in the cache; None if missing or damaged."""
    with suppress(OSError, InputError):
        pairs: list[list[int]] = read_sealed_json(entry)
        return pairs
    return None


def _thumbnails(source: FileSource, report: Reporter) -> Bytes:
    """uint8 `[N, 3, 32, 32]`; zeros for a file that cannot be read."""
    thumbs = np.zeros((len(source), 3, THUMB, THUMB), np.uint8)

    def look(i: int) -> None:
        with suppress(InputError):
            data = read_bytes(source.paths[i], ImageError, LIMITS.max_bytes)
            thumbs[i] = decode_thumbnail(data, source.ids[i], THUMB)

    with report.bar("searching for copies", len(source)) as bar:
        for_each(look, len(source), bar.at)
    return thumbs


def _representatives(groups: Sequence[Any], keys: Sequence[str]) -> Ints:
    """For each sample the member of its group with the lowest key, so that the order of samples does not matter."""
    best: dict[Any, int] = {}
    for i, group in enumerate(groups):
        if group not in best or keys[i] < keys[best[group]]:
            best[group] = i
    return np.array([best[group] for group in groups], np.int64)


def _linked(exact: Ints, pairs: Sequence[Sequence[int]], keys: Sequence[str]) -> Ints:
    """Groups of samples linked by chains of copies."""
    parent = exact.tolist()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return int(i)

    for first, second in zip(*pairs, strict=True):
        parent[root(first)] = root(second)
    return _representatives([root(i) for i in range(len(parent))], keys)
