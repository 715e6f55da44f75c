"""Shards: plain tars whose members are read by their place, without looking at the tar again.

They are written member by member, with what an index needs to find each again: where its bytes begin, how many they
are, and their CRC-32. Every read checks it, so that a changed byte is refused at its sample and never trained on.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import tarfile
import threading
import weakref
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from opsin.errors import ArchiveError, ArrayError
from opsin.io.gate import open_regular, printable, refusing
from opsin.io.images import decode_image

BLOCK_BYTES = 512
"""Tars are made of blocks of this size; a member begins with one that names it."""
END_BYTES = 2 * BLOCK_BYTES
MAX_OPEN = 64
"""Shards that are open at once: a process may not open more than some thousand files."""
DO_WRITE_AGAIN = "write the shards again: `opsin data shard DATA OUT`"


@dataclass(frozen=True, kw_only=True)
class Member:
    """Where a member's bytes lie in its shard: `offset` and `length` in bytes, and their CRC-32."""

    offset: int
    length: int
    crc: int


class ShardWriter:
    """A new tar, written member by member. Equal members make equal bytes: no times, no owners."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._digest = hashlib.sha256()
        self.num_bytes = 0

    def add(self, name: str, data: bytes) -> Member:
        """Append a file.

        Raises:
            OSError: the disk is full or faulty.
        """
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self._write(header.tobuf(tarfile.USTAR_FORMAT))
        member = Member(offset=self.num_bytes, length=len(data), crc=zlib.crc32(data))
        self._write(data + bytes(-len(data) % BLOCK_BYTES))
        return member

    def close(self) -> str:
        """End the tar; returns its SHA-256, 64 hexadecimal digits.

        Raises:
            OSError: the disk is full or faulty.
        """
        self._write(bytes(END_BYTES))
        self._file.close()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Close what will not be ended."""
        with suppress(OSError):
            self._file.close()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.num_bytes += len(data)


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A shard as the index names it: file name, bytes, SHA-256."""

    name: str
    num_bytes: int
    sha256: str


class ShardFiles(Protocol):
    """The shards of a set, wherever they lie."""

    def expect(self, shards: Sequence[int]) -> None:
        """Be told which shards are read next, in this order; others may be put away."""

    def read(self, shard: int, member: Member) -> bytes:
        """The bytes of a member; from any thread.

        Raises:
            ArchiveError: the shard is missing, cut off or changed.
        """


class SeveralShards:
    """The shards of several sets, numbered through.

    Args:
        sets: the shards of each.
        counts: number of shards of each.
    """

    def __init__(self, sets: Sequence[ShardFiles], counts: Sequence[int]) -> None:
        self.sets, self.ends = sets, list(accumulate(counts))

    def expect(self, shards: Sequence[int]) -> None:
        """Tell each set which of its shards are read next."""
        places = [self._place(shard) for shard in shards]
        for number, files in enumerate(self.sets):
            files.expect([shard for of, shard in places if of == number])

    def read(self, shard: int, member: Member) -> bytes:
        """The bytes of a member; from any thread.

        Raises:
            ArchiveError: the shard is missing, cut off or changed.
        """
        of, number = self._place(shard)
        return self.sets[of].read(number, member)

    def _place(self, shard: int) -> tuple[int, int]:
        """The set of a shard, and its number in it."""
        of = bisect_right(self.ends, shard)
        return of, shard - (self.ends[of - 1] if of else 0)


class LocalShards:
    """Shards in a folder; the last `MAX_OPEN` that were read stay open."""

    def __init__(self, folder: Path, shards: Sequence[ShardFile]) -> None:
        self.folder, self.shards = folder, shards
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def expect(self, shards: Sequence[int]) -> None:
        """Nothing: the operating system reads ahead."""

    def read(self, shard: int, member: Member) -> bytes:
        """The bytes of a member; from any thread.

        Raises:
            ArchiveError: the shard is missing, cut off or changed.
        """
        path = self.folder / self.shards[shard].name
        with refusing(ArchiveError, path, "the shard cannot be read"):
            data = self._opened(shard, path).at(member)
        return checked(data, member, path)

    def _opened(self, shard: int, path: Path) -> OpenShard:
        """The open shard. Who reads from it holds it, so one that is dropped here meanwhile is closed later."""
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
            file = self._open[shard] = opened_shard(path, self.shards[shard])
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
            return file


class OpenShard:
    """A file that is read by place, from several threads; it is closed when nobody holds it any more."""

    def __init__(self, file: BinaryIO) -> None:
        self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle)

    def at(self, member: Member) -> bytes:
        """The bytes where a member lies; fewer where the file ends."""
        return os.pread(self._handle, member.length, member.offset)


def opened_shard(path: Path, shard: ShardFile) -> OpenShard:
    """A shard of the length that the index names, open for reading.

    Raises:
        ArchiveError: it is missing, no regular file, or of another length.
    """
    with open_regular(path, ArchiveError) as (file, size):
        found = OpenShard(file)
    if size != shard.num_bytes:
        got, expected = f"{size} bytes", f"{shard.num_bytes} bytes"
        raise ArchiveError(
            "a shard has another length", where=printable(path), got=got, expected=expected, do=DO_WRITE_AGAIN
        )
    return found


def checked(data: bytes, member: Member, where: object) -> bytes:
    """The bytes of a member, if they are those that were written.

    Raises:
        ArchiveError: they are not.
    """
    if len(data) != member.length or zlib.crc32(data) != member.crc:
        place = f"{printable(where)}, {member.length} bytes from byte {member.offset}"
        what = "a sample in a shard is not as it was written: the shard has changed or its disk is faulty"
        raise ArchiveError(what, where=place, do=DO_WRITE_AGAIN)
    return data


def encode_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels uint8 [C, H, W] as the bytes of a .npy file: [H, W] of one channel, else [H, W, C]."""
    shown = pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
    return _npy_header(shown.shape) + np.ascontiguousarray(shown).tobytes()


@lru_cache(maxsize=64)
def _npy_header(shape: tuple[int, ...]) -> bytes:
    """What precedes the values of a .npy file of bytes in this shape."""
    buffer = io.BytesIO()
    npy_format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def decode_pixels(data: bytes, name: str, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """What `encode_pixels` has written: uint8 [C, H, W], perhaps read-only.

    Args:
        data: the bytes.
        name: what error messages call them.
        size: H and W, as the index names them.
        channels: C.

    Raises:
        ArrayError: another array, or none.
    """
    shape = size if channels == 1 else (*size, channels)
    header = _npy_header(shape)  # told by its bytes: NumPy parses it as Python, which takes longer than all the rest
    if not data.startswith(header) or len(data) != len(header) + math.prod(shape):
        got, expected = printable(data[:128])[:200], f"a .npy file of bytes {shape}"
        raise ArrayError("not the array that the index names", where=printable(name), got=got, expected=expected)
    array = np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def decode_plane(data: bytes, name: str) -> NDArray[np.uint8]:
    """A mask that was written as a grey PNG: uint8 [H, W].

    Raises:
        ImageError: no such image.
    """
    plane: NDArray[np.uint8] = decode_image(data, name).pixels[0]
    return plane
