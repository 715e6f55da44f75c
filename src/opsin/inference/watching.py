"""Images that appear in a folder while one waits: each is given once, when it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from opsin.io.images import IMAGE_SUFFIXES
from opsin.io.walking import walk_files

PAUSE_S = 1.0
"""Seconds between two looks at the folder. A look needs no notifications of the system, so network folders work too."""

State = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""


def arrivals(folder: Path, *, pause_s: float = PAUSE_S, sleep: Callable[[float], None] = time.sleep) -> Iterator[Path]:
    """Image files of a folder and of the folders in it, those that are there first; it never ends.

    A file is given once its size and its time are the same at two looks, as it may still be being written; one that
    changes afterwards is given again. Hidden files, as which many programs write at first, are left out.

    Raises:
        InputError: no such folder, or it cannot be read any more.
    """
    given: dict[Path, State] = {}
    before: dict[Path, State] = {}
    while True:
        now = _look(folder)
        for path, state in now.items():
            if before.get(path) == state and given.get(path) != state:
                given[path] = state
                yield path
        given = {path: state for path, state in given.items() if path in now}
        before = now
        sleep(pause_s)


def _look(folder: Path) -> dict[Path, State]:
    """The state of each image file; one that has just been removed is left out."""
    found = {}
    for path in walk_files(folder, report=lambda _: None):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            try:
                stat = path.stat()
            except OSError:
                continue
            found[path] = (stat.st_size, stat.st_mtime_ns)
    return found
