"""One process at a time trains a run: a lock of the operating system, which ends with the process however it dies."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from opsin.errors import RunError
from opsin.io.files import writing
from opsin.io.temporary import is_temporary, owner_lives

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training the run in `folder`, and remove incomplete files of killed ones.

    Raises:
        RunError: another process trains it.
    """
    if sys.platform == "win32":  # folders cannot be locked there
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks; a taken lock is detected below
            _lock(handle, folder)
        for left in [path for path in folder.rglob(".*.tmp") if is_temporary(path)]:
            if not owner_lives(left):  # an evaluation may write here meanwhile
                remove(left)
        yield
    finally:
        os.close(handle)


def is_locked(folder: Path) -> bool:
    """Whether a process trains the run in `folder`; False where the system does not say."""
    if sys.platform == "win32":
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    else:
        return False
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    """Take the lock on an open folder; it ends when the folder is closed, so also when the process is killed."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        do = "wait for it, or stop it; a copy of the folder under another name can be trained at the same time"
        raise RunError("another process is training this run", where=path, do=do) from error


def remove(path: Path) -> None:
    """Remove an incomplete or damaged file or folder."""
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
