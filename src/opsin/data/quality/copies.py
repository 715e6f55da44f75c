"""Copies in an undivided set, found before it is packed, so that a drawn split never tears them apart.

Files are read once: their hash tells exact copies and, with the seed, decides the draw (`data/splits.py`), so that a
folder and a table of the same files are divided alike; a thumbnail, of which JPEG decodes a part only, tells near
copies. What was found is kept in the cache, under the path, length and times of every file.
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
from opsin.data.samples import ArraySource, Bytes, FileSource, Ints, Source
from opsin.errors import ImageError, InputError, WriteError
from opsin.io.files import read_json, write_json
from opsin.io.gate import read_bytes
from opsin.io.images import LIMITS, decode_thumbnail
from opsin.progress import QUIET, Reporter

FORMAT = 1
MAX_NEAR = 20_000
"""Images up to which near copies are looked for before a draw: the work grows with the square of their number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Which of N samples of a set belong together.

    Attributes:
        exact: for each sample the number of the one that stands for all with the same bytes, int64 `[N]`.
        near: the same for all that show the same shot, exact copies included; None where that was not looked for.
        keys: for each sample what its content is called (SHA-256 of a file); None where samples have an order alone.
    """

    exact: Ints
    near: Ints | None
    keys: Sequence[str] | None = None

    @property
    def num_exact(self) -> int:
        """Samples that are equal to another that stands for them."""
        return len(self.exact) - len(np.unique(self.exact))

    @property
    def num_near(self) -> int:
        """Samples with a near copy that is no exact one."""
        if self.near is None:
            return 0
        sizes = np.bincount(self.near[np.unique(self.exact)], minlength=len(self.near))
        return int(sizes[sizes > 1].sum())


def find_copies(source: Source, *, cache: Path | None = None, report: Reporter = QUIET) -> Copies:
    """Exact copies in `source`, and near ones where its images are files and at most `MAX_NEAR`.

    Files are equal when their bytes are, arrays when their pixels are; equal pictures in different files are near. A
    file that cannot be read has no copies here: it is named when the set is packed.

    Args:
        cache: folder in which the result of reading all files is kept; None reads them anew.
        report: shows progress.
    """
    if isinstance(source, FileSource):
        return _copies_of_files(source, cache, report)
    keys = [_pixel_hash(source, i) for i in range(len(source))]
    return Copies(exact=_representatives(keys, keys), near=None)


def _pixel_hash(source: Source, i: int) -> str:
    if not isinstance(source, ArraySource):
        return str(i)
    return hashlib.blake2b(np.ascontiguousarray(source.images[i]).data, digest_size=16).hexdigest()


def _copies_of_files(source: FileSource, cache: Path | None, report: Reporter) -> Copies:
    file = None if cache is None else cache / "copies" / f"{_state(source)}.json"
    known = None if file is None else _kept(file, len(source))
    if known is None:
        keys, thumbs = _read(source, report)
        pairs = None if thumbs is None else near_pairs(thumbs)
        known = {
            "keys": keys,
            "pairs": None if pairs is None else [pairs.first.tolist(), pairs.second.tolist()],
        }
        if file is not None:
            with suppress(OSError, WriteError):  # a cache saves time; what cannot be kept is found anew
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, known)
    keys = known["keys"]
    exact = _representatives(keys, keys)
    near = None if known["pairs"] is None else _linked(exact, known["pairs"], keys)
    return Copies(exact=exact, near=near, keys=keys)


def _state(source: FileSource) -> str:
    """What tells whether a file has changed since it was read, over all files, without reading one."""
    digest = hashlib.sha256(repr((FORMAT, THUMB, MAX_NEAR)).encode())
    for path in source.paths:
        state: Any = None
        with suppress(OSError):
            stat = path.stat()
            state = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        digest.update(repr((str(path.absolute()), state)).encode())
    return digest.hexdigest()[:32]


def _kept(file: Path, num_samples: int) -> dict[str, Any] | None:
    """What was found before; None where nothing was, or it is damaged."""
    with suppress(OSError, InputError, KeyError, TypeError, ValueError):
        known = read_json(file)
        keys, pairs = known["keys"], known["pairs"]
        ends = np.array(pairs or [[], []], np.int64)
        if len(keys) == num_samples and ends.shape[0] == 2 and ((ends >= 0) & (ends < num_samples)).all():
            return {"keys": [str(key) for key in keys], "pairs": pairs}
    return None


def _read(source: FileSource, report: Reporter) -> tuple[list[str], Bytes | None]:
    """SHA-256 of each file, and thumbnails uint8 `[N, 3, 32, 32]`, or None for too many files."""
    keys = [f"unread {name}" for name in source.ids]
    thumbs = np.zeros((len(source), 3, THUMB, THUMB), np.uint8) if len(source) <= MAX_NEAR else None

    def look(i: int) -> None:
        with suppress(InputError):
            data = read_bytes(source.paths[i], ImageError, LIMITS.max_bytes)
            keys[i] = hashlib.sha256(data).hexdigest()
            if thumbs is not None:
                thumbs[i] = decode_thumbnail(data, source.ids[i], THUMB)

    with report.bar("looking for copies", len(source)) as bar:
        for_each(look, len(source), bar.at)
    return keys, thumbs


def _representatives(groups: Sequence[Any], keys: Sequence[str]) -> Ints:
    """For each sample the one of the lowest key in its group, so that the order of samples does not matter."""
    best: dict[Any, int] = {}
    for i, group in enumerate(groups):
        if group not in best or keys[i] < keys[best[group]]:
            best[group] = i
    return np.array([best[group] for group in groups], np.int64)


def _linked(exact: Ints, pairs: Sequence[Sequence[int]], keys: Sequence[str]) -> Ints:
    """Groups of all samples that a chain of copies links."""
    parent = exact.tolist()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return int(i)

    for first, second in zip(*pairs, strict=True):
        parent[root(first)] = root(second)
    return _representatives([root(i) for i in range(len(parent))], keys)
