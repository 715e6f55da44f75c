"""Archives from outside: .zip and .tar (plain, .gz, .bz2, .xz), told by their content, unpacked atomically.

An archive is refused as a whole for one bad member: a name that leaves the folder, a link, a device, an encrypted or
doubled member; for bytes that expand suspiciously; and for an end that is missing.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from opsin.errors import ArchiveError, WriteError
from opsin.io.files import PathLike, atomic_folder, writing
from opsin.io.gate import MEBIBYTE, check_size, open_regular, printable, refusing

COPY_BYTES = MEBIBYTE
TAR_BLOCK = 512
MAX_NAME_BYTES = 1024
MAX_PART_BYTES = 255
MAX_DEPTH = 64


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What an archive may expand to.

    Attributes:
        max_bytes: of all members together.
        max_ratio: of all members together to the archive.
        ratio_free_bytes: up to this size any ratio is accepted; text compresses well.
        max_members: files and folders.
    """

    max_bytes: int = 200 * 1024 * MEBIBYTE
    max_ratio: int = 100
    ratio_free_bytes: int = MEBIBYTE
    max_members: int = 3_000_000

    def cap(self, archive_bytes: int) -> int:
        """Bytes that an archive of this length may expand to."""
        return min(self.max_bytes, max(self.ratio_free_bytes, self.max_ratio * archive_bytes))


LIMITS = ArchiveLimits()


def extract(archive: PathLike, into: PathLike, limits: ArchiveLimits = LIMITS) -> None:
    """Unpack an archive as the folder `into`, which must not exist or be empty. Nothing appears unless all of it does.

    Raises:
        ArchiveError: no archive, cut off, damaged, or with a member or a size that is refused. No file is left.
        WriteError: `into` is taken, or the disk is full or faulty.
    """
    target = Path(into)
    if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
        target.rmdir()
    with open_regular(archive, ArchiveError) as (file, size):
        check_size(size, limits.max_bytes, archive, ArchiveError)
        with atomic_folder(target) as folder:
            writer = _Writer(folder, archive, limits, limits.cap(size))
            with refusing(ArchiveError, archive, "not a readable archive"):
                start = file.read(6)
                file.seek(0)
                if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                    _extract_zip(file, writer)
                else:
                    _extract_tar(_unpacked(file, start), writer)


def _unpacked(file: BinaryIO, start: bytes) -> IO[bytes]:
    """The tar stream inside a compressed file."""
    if start[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start[:3] == b"BZh":
        return cast("IO[bytes]", bz2.BZ2File(file))
    if start == b"\xfd7zXZ\0":
        return cast("IO[bytes]", lzma.LZMAFile(file))
    return file


class _Writer:
    """Checks each member and writes it below `folder`; knows how much has come out so far."""

    def __init__(self, folder: Path, archive: PathLike, limits: ArchiveLimits, cap: int) -> None:
        self.folder, self.archive, self.limits, self.cap = folder, archive, limits, cap
        self.num_members = self.num_bytes = 0

    def refuse(self, what: str, member: str, expected: object = None) -> ArchiveError:
        do = "do not use this archive: its publisher or someone on the way made it so"
        where = f"{printable(self.archive)}: {printable(member)[:200]}"
        return ArchiveError(what, where=where, expected=expected, do=do)

    def path_of(self, name: str) -> Path:
        """Where a member goes; refuses names that leave the folder or that some system reads otherwise."""
        self.check_name(name)
        self.num_members += 1
        if self.num_members > self.limits.max_members:
            raise self.refuse("too many members", name, f"at most {self.limits.max_members}")
        return self.folder / name

    def check_name(self, name: str) -> None:
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise self.refuse("a member leaves the folder", name, "a relative path")
        if "\\" in name or any(ord(c) < 32 for c in name) or not name.strip("/."):
            raise self.refuse("a member has a refused name", name, "no backslash, no control character, not empty")
        lengths = [len(os.fsencode(part)) for part in parts]
        if sum(lengths) > MAX_NAME_BYTES or max(lengths) > MAX_PART_BYTES or len(parts) > MAX_DEPTH:
            expected = f"at most {MAX_NAME_BYTES} bytes, {MAX_PART_BYTES} for one part, {MAX_DEPTH} folders"
            raise self.refuse("a member has too long a name", name, expected)

    def add_folder(self, name: str) -> None:
        if not name.strip("./") and ".." not in name:  # tar archives often begin with "./"
            return
        path = self.path_of(name)
        with self.no_collision(name), writing(path):
            path.mkdir(parents=True, exist_ok=True)

    def add_file(self, name: str, stream: IO[bytes] | _TarMember, size: int) -> None:
        path = self.path_of(name)
        if size > self.cap - self.num_bytes:
            raise self.refuse("the archive expands suspiciously", name, f"at most {self.cap} bytes")
        with self.no_collision(name), writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        with file:
            written = 0
            while written <= size and (block := stream.read(COPY_BYTES)):
                written += len(block)
                with writing(path):
                    file.write(block)
        if written != size:
            raise self.refuse("a member's length is not what the archive says", name, f"{size} bytes")
        self.num_bytes += size

    @contextmanager
    def no_collision(self, name: str) -> Iterator[None]:
        """Two members of one name (on this file system: case may not count), or a file that is a folder too."""
        try:
            yield
        except WriteError as error:
            if isinstance(error.__cause__, FileExistsError | NotADirectoryError | IsADirectoryError):
                raise self.refuse("a member is given twice", name) from error
            raise


def _extract_zip(file: BinaryIO, writer: _Writer) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > writer.cap:
            raise writer.refuse("the archive expands suspiciously", f"{total} bytes", f"at most {writer.cap} bytes")
        for member in members:
            _check_zip_member(member, writer)
        for member in members:
            if member.is_dir():
                writer.add_folder(member.filename)
                continue
            with archive.open(member) as stream:
                writer.add_file(member.filename, stream, member.file_size)


def _check_zip_member(member: zipfile.ZipInfo, writer: _Writer) -> None:
    # orig_filename: zipfile cuts names at NUL and turns the separator of this system into "/".
    writer.check_name(member.orig_filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise writer.refuse("a member is a link or a device", member.filename, "files and folders")
    if member.flag_bits & 1:
        raise writer.refuse("a member is encrypted", member.filename, "an archive without a password")


class _Bounded(io.RawIOBase):
    """A stream that refuses to expand beyond a cap, and to give much at once (tar headers say how long they are)."""

    def __init__(self, stream: IO[bytes], cap: int) -> None:
        self.stream, self.cap, self.position, self.last = stream, cap, 0, b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= COPY_BYTES:
            raise ValueError(f"a header of {size} bytes, expected at most {COPY_BYTES}")
        self.last = self.stream.read(size)
        self.position += len(self.last)
        if self.position > self.cap:
            raise ValueError(f"expands suspiciously: to more than {self.cap} bytes")
        return self.last

    def tell(self) -> int:
        return self.position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Forward only: what is skipped is read, so that it counts."""
        if whence != io.SEEK_SET or position < self.position:
            raise ValueError("the archive points backwards")
        while self.position < position:
            if not self.read(min(COPY_BYTES, position - self.position)):
                raise EOFError("the archive is cut off")
        return position


class _TarMember:
    """The bytes of one member, read straight from the stream."""

    def __init__(self, stream: _Bounded, size: int) -> None:
        self.stream, self.left = stream, size

    def read(self, size: int) -> bytes:
        block = self.stream.read(min(size, self.left))
        self.left -= len(block)
        return block


def _extract_tar(stream: IO[bytes], writer: _Writer) -> None:
    # Headers and padding come on top of the members: one block each, and some for long names.
    bounded = _Bounded(stream, 2 * writer.cap + 64 * TAR_BLOCK)
    with tarfile.TarFile(fileobj=cast("IO[bytes]", bounded), mode="r") as archive:
        while (member := archive.next()) is not None:
            if member.isdir():
                writer.add_folder(member.name)
            elif member.isreg() and not member.issparse():
                writer.add_file(member.name, _TarMember(bounded, member.size), member.size)
            else:
                raise writer.refuse("a member is a link or a device", member.name, "files and folders")
            cast("Any", archive).members.clear()  # it would keep a record of each
    # tarfile takes a damaged header for the end; here only a block of zeros ends an archive.
    if bounded.last != bytes(TAR_BLOCK) or writer.num_members == 0:
        raise EOFError("the archive is empty, cut off or damaged")
    while bounded.read(COPY_BYTES):  # to the end of the stream, where its checksum is
        pass
