"""Locks of the operating system on files: they end with the process that holds them, however it dies.

Where there are none (Windows, some network drives) one process at a time may work on a study.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class FileLock:
    """A lock on the file at `path`, which is created if missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def take(self, *, wait: bool) -> bool:
        """Take the lock, or return false where another holder has it and `wait` is false."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        if sys.platform != "win32":
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(handle)
                return False
            except OSError:  # a file system without locks
                pass
        self._handle = handle
        return True

    def drop(self) -> None:
        """Release the lock."""
        if self._handle is not None:
            with suppress(OSError):
                os.close(self._handle)
            self._handle = None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Context that holds the lock on `path`, after waiting for it."""
    lock = FileLock(path)
    lock.take(wait=True)
    try:
        yield
    finally:
        lock.drop()


class JournalLock:
    """The lock under which Optuna writes its journal; taking it removes an incomplete line of a killed process.

    Optuna's own lock files remain when their holder is killed, and block others; an incomplete line would make the
    next one unreadable.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._lock = FileLock(journal.with_name(f"{journal.name}.lock"))

    def acquire(self) -> bool:
        """Take the lock, waiting for it."""
        taken = self._lock.take(wait=True)
        repair_journal(self.journal)
        return taken

    def release(self) -> None:
        """Release the lock."""
        self._lock.drop()


def repair_journal(journal: Path) -> None:
    """Remove an incomplete last line: its writer was killed."""
    if not journal.is_file() or not journal.stat().st_size:
        return
    with journal.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
        file.flush()
        os.fsync(file.fileno())
