"""Folders of object stores (S3, Google Cloud Storage, Azure), through fsspec and the package of each store.

Only addresses of these stores are taken, and only where the user types them. Addresses of the web are not: fsspec would
follow any redirect, and `download.py` does not.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from opsin.errors import ArchiveError, DownloadError
from opsin.io.gate import MEBIBYTE, printable
from opsin.io.shards import Member, OpenShard, ShardFile, checked

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ADDRESS = re.compile(r"(?P<store>s3|gs|gcs|az|abfs|memory)://(?P<path>[^?#:]+)")
BLOCK_BYTES = MEBIBYTE
NUM_FETCHED = 2
"""Shards that are fetched at the same time."""
MAX_SMALL_BYTES = 1024 * MEBIBYTE
"""Largest file that is read into memory: the index of a set, or its table."""


def is_remote(source: object) -> bool:
    """Whether a source is an address of an object store.

    >>> is_remote("s3://bucket/photos"), is_remote("https://example.org/photos.zip"), is_remote("photos")
    (True, False, False)
    """
    return isinstance(source, str) and ADDRESS.fullmatch(source) is not None


class RemoteFolder:
    """A folder of an object store.

    Raises:
        DownloadError: fsspec, or the store's package for it, is missing.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        if find_spec("fsspec") is None:
            do = "pip install 'opsin[remote]'"
            raise DownloadError("the extra `remote` is missing to read this address", where=printable(address), do=do)
        from fsspec.core import url_to_fs

        with _failing(address, "no access to this store: is its package for fsspec installed?"):
            found = url_to_fs(self.address)
        self._store: AbstractFileSystem = found[0]
        self._path: str = found[1].rstrip("/")

    def read(self, name: str, *, start: int | None = None, stop: int | None = None) -> bytes:
        """The bytes of a file, or those from `start` to `stop` - 1.

        Raises:
            DownloadError: it is not there, too long, or cannot be read.
        """
        path = f"{self._path}/{name}"
        with _failing(f"{self.address}/{name}", "the file cannot be read from its store"):
            if start is None and self._store.size(path) > MAX_SMALL_BYTES:
                raise ValueError(f"more than {MAX_SMALL_BYTES:,} bytes")
            return cast("bytes", self._store.cat_file(path, start=start, end=stop))

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A file, to be read from its beginning.

        Raises:
            DownloadError: it is not there, or cannot be read.
        """
        with (
            _failing(f"{self.address}/{name}", "the file cannot be read from its store"),
            self._store.open(f"{self._path}/{name}", "rb") as file,
        ):
            yield cast("BinaryIO", file)


@contextmanager
def _failing(address: str, what: str) -> Iterator[None]:
    """Turn whatever a store raises into a `DownloadError` that names the address."""
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:  # each store has errors of its own
        got = printable(f"{type(error).__name__}: {error}")[:300]
        raise DownloadError(what, where=printable(address), got=got, do="check the address and your access") from error


class RemoteShards:
    """Shards in an object store.

    Those that are expected are fetched whole, ahead, into files without a name, which are gone when they are no longer
    expected or the process ends: on the disk are never more than these. A sample of another shard is fetched by itself.

    Args:
        folder: where the shards are.
        shards: as the index names them.
        place: folder for the files.
    """

    def __init__(self, folder: RemoteFolder, shards: Sequence[ShardFile], place: Path) -> None:
        self.folder, self.shards, self.place = folder, shards, place
        self._fetched: dict[int, Future[OpenShard]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(NUM_FETCHED, thread_name_prefix="opsin-shards")

    def expect(self, shards: Sequence[int]) -> None:
        """Fetch these shards, in this order, and drop all others."""
        with self._lock:
            for shard in self._fetched.keys() - set(shards):
                self._fetched.pop(shard).cancel()
            for shard in shards:
                if shard not in self._fetched:
                    self._fetched[shard] = self._pool.submit(self._fetch, self.shards[shard])

    def read(self, shard: int, member: Member) -> bytes:
        """The bytes of a member; from any thread.

        Raises:
            DownloadError: the store does not give them.
            ArchiveError: they are not as they were written.
        """
        with self._lock:
            fetched = self._fetched.get(shard)
        name = self.shards[shard].name
        if fetched is not None:
            data = fetched.result().at(member)
        else:
            data = self.folder.read(name, start=member.offset, stop=member.offset + member.length)
        return checked(data, member, f"{self.folder.address}/{name}")

    def _fetch(self, shard: ShardFile) -> OpenShard:
        """A whole shard, in a file without a name; its length and SHA-256 are those of the index."""
        digest, count = hashlib.sha256(), 0
        self.place.mkdir(parents=True, exist_ok=True)
        with self.folder.opened(shard.name) as source, tempfile.TemporaryFile(dir=self.place) as file:
            while block := source.read(min(BLOCK_BYTES, shard.num_bytes + 1 - count)):
                digest.update(block)
                count += len(block)
                file.write(block)
            file.flush()
            found = OpenShard(cast("BinaryIO", file))
        if count != shard.num_bytes or digest.hexdigest() != shard.sha256:
            where, got = f"{self.folder.address}/{shard.name}", f"{count} bytes, SHA-256 {digest.hexdigest()}"
            expected = f"{shard.num_bytes} bytes, SHA-256 {shard.sha256}"
            raise ArchiveError("a shard is not as it was written", where=printable(where), got=got, expected=expected)
        return found
