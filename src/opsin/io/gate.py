"""What every reader of outside bytes shares: one way to open a file, one way to refuse it.

Decoders of other packages raise whatever they like (`struct.error`, `SyntaxError`, `MemoryError`, …). Each call into
one is wrapped in `refusing`, so that a reader raises the `InputError` of its kind and nothing else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from opsin.errors import InputError, OpsinError
from opsin.text import printable as printable

MEBIBYTE = 2**20


@contextmanager
def refusing(kind: type[InputError], name: object, what: str = "the file cannot be read") -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into one `kind` error that names the file.

    Raises:
        InputError: as `kind`, for any exception but those that are deliberate already.
    """
    try:
        yield
    except OpsinError:
        raise
    except Exception as error:
        reason = printable(f"{type(error).__name__}: {error}")[:300]
        raise kind(what, where=printable(name), got=reason, do="replace the file, or leave it out") from error


@contextmanager
def open_regular(path: str | os.PathLike[str], kind: type[InputError]) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading; yields (file, size in bytes). Never waits on a pipe or a device.

    Raises:
        InputError: as `kind`, if there is no such file or it is not a regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with refusing(kind, path, "the file cannot be opened"):
        handle = os.open(path, flags)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        got = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise kind("not a file", where=printable(path), got=got, expected="a regular file")
    with os.fdopen(handle, "rb") as file:
        yield file, os.fstat(handle).st_size


def read_bytes(path: str | os.PathLike[str], kind: type[InputError], max_bytes: int) -> bytes:
    """The whole file, if it is not empty and at most `max_bytes` long.

    Raises:
        InputError: as `kind`, if the file is missing, special, empty or too long, or changes while it is read.
    """
    with open_regular(path, kind) as (file, size):
        check_size(size, max_bytes, path, kind)
        with refusing(kind, path):
            # one byte more, to see a file grow; not `max_bytes`: that much memory would be asked for
            data = file.read(size + 1)
    if len(data) != size:
        got, expected = f"{len(data)} bytes or more", f"{size} bytes"
        raise kind("the file changed while it was read", where=printable(path), got=got, expected=expected)
    return data


def check_size(size: int, max_bytes: int, name: object, kind: type[InputError]) -> None:
    """Refuse an empty or an overlong input.

    Raises:
        InputError: as `kind`.
    """
    if size == 0:
        raise kind("the file is empty", where=printable(name), got="0 bytes", do="replace it, or leave it out")
    if size > max_bytes:
        raise kind("the file is too large", where=printable(name), got=f"{size} bytes", expected=f"at most {max_bytes}")


def first_bytes(path: str | os.PathLike[str], kind: type[InputError], count: int = 16) -> bytes:
    """The first `count` bytes of a file, by which its format is told.

    Raises:
        InputError: as `kind`, if the file is missing, special or empty.
    """
    with open_regular(path, kind) as (file, size):
        check_size(size, size, path, kind)
        with refusing(kind, path):
            return file.read(count)
