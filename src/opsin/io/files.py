"""Files and folders as a whole: written atomically, hashed; and JSON.

Everything is written under a temporary name in the same folder (`.NAME.….tmp`), fsynced, renamed, and the parent
folder is fsynced. After an error or a full disk no temporary file is left; after SIGKILL one may be, and its name tells
whose it was (`temporary.py`).
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from opsin.errors import AnnotationError, InputError, NameTakenError, WriteError
from opsin.io.gate import MEBIBYTE, open_regular, printable, read_bytes, refusing
from opsin.io.temporary import temporary_beside
from opsin.text import text_of
from opsin.types import JsonDict

PathLike = str | os.PathLike[str]

MAX_JSON_BYTES = 256 * MEBIBYTE
MAX_JSON_DEPTH = 64
MANY_FILES = 200
MAX_RENAMES = 16
"""Attempts to give a folder a name that other processes give away at the same time."""
TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""Errors of a rename onto a name that is taken."""


def sha256_file(path: PathLike) -> str:
    """SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        InputError: the file is missing or is not a regular file.
    """
    with open_regular(path, InputError) as (file, _), refusing(InputError, path):
        return hashlib.file_digest(cast("io.BufferedReader", file), "sha256").hexdigest()


@contextmanager
def writing(path: PathLike) -> Iterator[None]:
    """Turn an `OSError` inside the block into a `WriteError` that names what was to be written.

    Raises:
        WriteError: as said.
    """
    try:
        yield
    except OSError as error:
        do = "free some space or choose another folder; what was there before is unchanged"
        raise WriteError("cannot write", where=printable(path), got=printable(error), do=do) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` last through a power cut."""
    if os.name == "posix":
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: PathLike, data: bytes) -> None:
    """Write a file atomically; the parent folder is made if need be.

    Raises:
        WriteError: the disk is full, faulty or forbids it. The previous file is unchanged, no stray file is left.
    """
    target = Path(path)
    temporary = temporary_beside(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_synced(temporary, data)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


@contextmanager
def writing_file(path: PathLike) -> Iterator[BinaryIO]:
    """A file to write piece by piece; it gets its name when the block ends well, and leaves nothing if it does not.

    Raises:
        WriteError: as `write_atomically`.
    """
    target = Path(path)
    temporary = temporary_beside(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def _write_synced(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_folder(path: PathLike, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears atomically: fill the folder that is yielded; it gets its name when the block ends.

    If the block raises, the folder is removed. With `replace`, a folder of that name is moved aside first and deleted
    last; a kill between the two renames leaves the old one under a temporary name.

    Raises:
        NameTakenError: the name is taken (without `replace`), before the block or, by another process, by its end.
        WriteError: the disk is full, faulty or forbids it.
    """
    target = Path(path)
    if os.path.lexists(target) and not replace:
        raise _taken(target)
    temporary = temporary_beside(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            yield temporary
            _sync_tree(temporary)
            _rename_folder(temporary, target, replace=replace)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(target.parent)


def _taken(target: Path) -> NameTakenError:
    do = "choose another name or remove it"
    return NameTakenError("the folder exists already", where=printable(target), do=do)


def _sync_tree(folder: Path) -> None:
    """Bring all of a folder to the disk: file by file, or with one call for the machine where there are many."""
    paths = [Path(where) / name for where, _, names in os.walk(folder) for name in ("", *names)]
    if len(paths) > MANY_FILES and os.name == "posix":
        os.sync()
        return
    for path in paths:
        if path.is_dir():
            _sync_folder(path)
        else:
            _sync(path)


def _rename_folder(temporary: Path, target: Path, *, replace: bool) -> None:
    """Give `temporary` its name; with `replace`, an existing `target` is moved aside, and comes back if that fails.

    Another process may do the same at any moment: what counts is what the renames themselves find.

    Raises:
        NameTakenError: the name is taken, and not to be replaced.
    """
    for _ in range(MAX_RENAMES):
        if not os.path.lexists(target) and _renamed(temporary, target, unless=TAKEN):
            return
        if not replace:
            raise _taken(target)
        aside = temporary_beside(target)
        if not _renamed(target, aside, unless=(errno.ENOENT,)):
            continue  # another process has moved it aside
        try:
            done = _renamed(temporary, target, unless=TAKEN)
        except BaseException:
            aside.rename(target)
            raise
        _delete(aside)
        if done:
            return
    raise _taken(target)


def _renamed(source: Path, target: Path, *, unless: tuple[int, ...]) -> bool:
    """Rename; false where the system refuses with one of the error numbers `unless`."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno not in unless:
            raise
        return False
    return True


def remove_folder(path: PathLike) -> None:
    """Remove a folder: at once under its name, then its content; nothing happens where there is none.

    Raises:
        WriteError: it cannot be removed.
    """
    target = Path(path)
    with writing(target):
        aside = temporary_beside(target)
        if _renamed(target, aside, unless=(errno.ENOENT,)):
            _delete(aside)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def write_json(path: PathLike, value: object) -> None:
    """Write a JSON file atomically: UTF-8, indented by 2, a newline at the end. NaN (undefined) becomes null,
    and a name that is not Unicode is escaped.

    Raises:
        WriteError: the value holds what JSON has no word for (infinity, sets, arrays), or the disk is full or faulty.
    """
    try:
        text = json.dumps(as_json(value), indent=2, ensure_ascii=False, allow_nan=False)
        data = text.encode("utf-8") + b"\n"
    except (TypeError, ValueError) as error:
        raise WriteError(
            "not a JSON value",
            where=printable(path),
            got=error,
            do="convert it to numbers, strings, lists and mappings",
        ) from error
    write_atomically(path, data)


def as_json(value: object) -> Any:
    """A value as every reader of JSON knows it: NaN is null, and names are text (`text_of`), at any depth."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, dict):
        return {as_json(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def read_json(path: PathLike, max_bytes: int = MAX_JSON_BYTES, *, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """The value in a JSON file (UTF-8).

    Raises:
        AnnotationError: no JSON, a key given twice, NaN or Infinity, nested deeper than `max_depth`, or too long.
    """
    data = read_bytes(path, AnnotationError, max_bytes)
    with refusing(AnnotationError, path, "not a JSON file"):
        text = data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    depth = _depth(value, max_depth)
    if depth > max_depth:
        raise AnnotationError("JSON nested too deep", where=printable(path), got=f"> {max_depth}", expected=max_depth)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> JsonDict:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is given twice in one object")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _depth(value: object, max_depth: int) -> int:
    """Depth of nesting, counted up to `max_depth + 1`; level by level, so that depth costs no recursion."""
    level, depth = [value], 0
    while level and depth <= max_depth:
        containers = [item for item in level if isinstance(item, dict | list)]
        depth += bool(containers)
        level = [x for item in containers for x in (item.values() if isinstance(item, dict) else item)]
    return depth
