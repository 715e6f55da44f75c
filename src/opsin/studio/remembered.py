"""What a file says, kept in memory until the file changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

Content = TypeVar("Content")
Stamp = tuple[int, int, int]


class Remembered(Generic[Content]):
    """The content of one file, read again once its time, size or number is another: atomic writes change the number.

    What is given out is shared, and must not be changed.

    Args:
        path: of the file.
        read: reads it.
        missing: what is said where there is no file.
    """

    def __init__(self, path: Path, read: Callable[[Path], Content], missing: Content) -> None:
        self.path = path
        self._read, self._missing = read, missing
        self._known: tuple[Stamp, Content] | None = None

    def content(self) -> Content:
        """What the file says now."""
        stamp = stamp_of(self.path)
        if stamp is None:
            return self._missing
        if self._known is None or self._known[0] != stamp:
            self._known = stamp, self._read(self.path)
        return self._known[1]


def stamp_of(path: Path) -> Stamp | None:
    """Time, size and number of a file; None where there is none."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino
