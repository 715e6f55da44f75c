"""What is known of a set's files without decoding them: the SHA-256 of each, size and depth of its image.

Reading 100,000 files takes half a minute, and neither changes while a file does not. So both are kept in the cache, in
one entry for each list of files, under a key of their paths, lengths and times. Nothing is kept where a file could not
be read: it may be tomorrow, with no time changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opsin.data.parallel import for_each
from opsin.errors import ImageError, InputError, WriteError
from opsin.io.files import sha256_file
from opsin.io.gate import read_bytes
from opsin.io.images import LIMITS, bits_of, upright_size
from opsin.io.sealed import read_sealed_json, write_sealed_json
from opsin.io.walking import PathsBelow
from opsin.progress import QUIET, Reporter

FORMAT = 3
HEX_DIGITS = 64
NO_IMAGE = (0, 0)
"""Size of a file whose header is not that of an image that can be read."""
NOT_SEEN = (-1, -1)
"""Size of a file whose header takes a decoder of its own: HEIC, AVIF, TIFF."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FileFacts:
    """Facts of N files, in their order.

    Attributes:
        digests: SHA-256 as 64 hexadecimal digits; "" for a file that cannot be read.
        sizes: int32 `[N, 2]`, upright height and width by the header, or `NO_IMAGE`, or `NOT_SEEN`.
        deep: bool `[N]`, whether the file has 16 bits a channel.
    """

    digests: Sequence[str]
    sizes: NDArray[np.int32]
    deep: NDArray[np.bool_]

    def take(self, indices: NDArray[np.int64]) -> FileFacts:
        """Those of the files of these numbers."""
        return FileFacts(digests=[self.digests[i] for i in indices], sizes=self.sizes[indices], deep=self.deep[indices])


def facts_of_files(paths: Sequence[Path], *, cache: Path | None, report: Reporter = QUIET) -> FileFacts:
    """The facts of files, from the cache where none of them has changed since.

    Args:
        paths: of the files; one that cannot be read is kept without a digest.
        cache: the cache folder; None reads all files.
        report: shows progress.
    """
    entry = None if cache is None else cache / "files" / f"{_state(paths)}.json"
    known = None if entry is None else _kept(entry, len(paths))
    if known is not None:
        return known
    read, complete = _read(paths, report)
    if entry is not None and complete:
        with suppress(OSError, WriteError):  # the cache only saves time
            entry.parent.mkdir(parents=True, exist_ok=True)
            sizes, deep = read.sizes.ravel().tolist(), np.flatnonzero(read.deep).tolist()
            write_sealed_json(entry, {"digests": "".join(read.digests), "sizes": sizes, "deep": deep})
    return read


def _state(paths: Sequence[Path]) -> str:
    """A key over the state of all files that changes when a file does, computed without reading them."""
    digest = hashlib.sha256(f"{FORMAT}".encode())
    texts = paths.texts if isinstance(paths, PathsBelow) else list(map(str, paths))
    if not all(map(os.path.isabs, texts[:1] if isinstance(paths, PathsBelow) else texts)):
        digest.update(os.fsencode(Path.cwd()))
    states = []
    for path in texts:
        try:
            stat = os.stat(path)  # noqa: PTH116 (a Path takes as long again)
            states.append(f"{path}\0{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\0")
        except OSError:
            states.append(f"{path}\0\0")
    digest.update(os.fsencode("".join(states)))
    return digest.hexdigest()[:32]


def _kept(entry: Path, count: int) -> FileFacts | None:
    """The entry of the cache; None if missing or damaged."""
    with suppress(OSError, InputError):
        known = read_sealed_json(entry)
        text, sizes = known["digests"], np.array(known["sizes"], np.int32).reshape(-1, 2)
        deep = np.isin(np.arange(count), np.array(known["deep"], np.int64))
        if len(text) == count * HEX_DIGITS and len(sizes) == count:
            digests = [text[at : at + HEX_DIGITS] for at in range(0, len(text), HEX_DIGITS)]
            return FileFacts(digests=digests, sizes=sizes, deep=deep)
    return None


def _read(paths: Sequence[Path], report: Reporter) -> tuple[FileFacts, bool]:
    """The facts of files, and whether they will be the same the next time."""
    digests = [""] * len(paths)
    sizes = np.full((len(paths), 2), NO_IMAGE, np.int32)
    deep, lacking = np.zeros((2, len(paths)), np.bool_)

    def look(i: int) -> None:
        try:
            data = read_bytes(paths[i], ImageError, LIMITS.max_bytes)
        except InputError:
            with suppress(InputError):
                digests[i] = sha256_file(paths[i])
            return
        digests[i] = hashlib.sha256(data).hexdigest()
        try:
            sizes[i] = upright_size(data, str(paths[i])) or NOT_SEEN
            deep[i] = bits_of(BytesIO(data), str(paths[i])) == 16
        except InputError as error:
            lacking[i] = isinstance(error.__cause__, MemoryError)  # there may be enough the next time

    with report.bar("reading files", len(paths)) as bar:
        for_each(look, len(paths), bar.at)
    return FileFacts(digests=digests, sizes=sizes, deep=deep), all(digests) and not lacking.any()
