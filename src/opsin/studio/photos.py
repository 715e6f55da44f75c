"""The photos of a folder that is labelled: their list, and their pixels as they are shown."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from posixpath import splitext

import numpy as np
from numpy.typing import NDArray

from opsin.data.readers.folders import SPLIT_NAMES
from opsin.io.images import IMAGE_SUFFIXES, SIDEWAYS, read_image, read_size
from opsin.io.walking import walk
from opsin.ops.resize import fit_image
from opsin.server.refusal import RequestError
from opsin.types import SizePolicy

Bytes = NDArray[np.uint8]
WORK_PX = 1024
"""Longer side at which photos are shown and masks are painted."""
TEST = "test"
SETTLED_NS = 3_000_000_000
"""Age from which on the time of a folder tells that nothing was added since: file systems count in steps up to 2 s."""


class Photos:
    """The photos of one folder, named by their number in a list; `token` says which list a number belongs to.

    Args:
        folder: of the photos; only read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: tuple[str, ...] = ()
        self.sealed: tuple[str, ...] = ()
        self.token = ""
        self._folders: Mapping[Path, int] = {}

    def refresh(self) -> None:
        """List the photos anew; those of a test split are left out, and so are names that are no text.

        While no folder below has changed, the list stays as it is.

        Raises:
            InputError: the folder cannot be read, or a link leads out of it.
        """
        began = time.time_ns()
        if self._folders and _times(self._folders) == self._folders:
            return
        files, folders = walk(self.folder, _ignore)
        names = [name for name in files if splitext(name)[1].lower() in IMAGE_SUFFIXES]
        usable = [name for name in names if name.isprintable() and not re.search(r"(^|/)\.", name)]
        self.sealed = tuple(name for name in usable if split_of(name) == TEST)
        self.names = tuple(name for name in usable if split_of(name) != TEST)
        self.token = hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]
        times = _times(folders)
        self._folders = times if max(times.values(), default=began) < began - SETTLED_NS else {}

    def name(self, number: int, token: str) -> str:
        """The photo of a number.

        Raises:
            RequestError: 409 another list, 404 no such number.
        """
        if token != self.token:
            raise RequestError(409, "the folder has changed", do="load the page anew")
        if not 0 <= number < len(self.names):
            raise RequestError(404, "no such photo", got=number)
        return self.names[number]

    def classes(self) -> dict[str, str]:
        """The class of each photo, test too, by the folder it lies in; empty where the folders are not two or more."""
        found = {name: label for name in (*self.names, *self.sealed) if (label := _folder_class(name))}
        return found if len(set(found.values())) > 1 else {}

    def pixels(self, name: str) -> Bytes:
        """A photo, upright, at most `WORK_PX` large: uint8 [3, H, W].

        Raises:
            ImageError: it cannot be read.
        """
        found = read_image(self.folder / name, sides=at_work)
        height, width = at_work(*found.size)
        return fit_image(found.pixels, SizePolicy(height=height, width=width), whole=found.size)

    def size(self, name: str) -> tuple[int, int]:
        """Height and width of the upright photo."""
        height, width, orientation = read_size(self.folder / name)
        return (width, height) if orientation >= SIDEWAYS else (height, width)

    def tells_which_side_is_up(self, name: str) -> bool:
        """Whether boxes in the photo mean the same to whoever turns it upright, and to whoever does not know how."""
        height, width, orientation = read_size(self.folder / name)
        return orientation <= 1 or (orientation >= SIDEWAYS and height != width)


def at_work(height: int, width: int) -> tuple[int, int]:
    """Height and width at which a photo is shown and painted."""
    factor = min(1.0, WORK_PX / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def split_of(name: str) -> str:
    """The split that the first folder of a photo names; "" where it names none."""
    first, slash, _ = name.partition("/")
    return SPLIT_NAMES.get(first.lower(), "") if slash else ""


def _folder_class(name: str) -> str:
    parts = name.split("/")[1 if split_of(name) else 0 : -1]
    return parts[0].strip() if parts else ""


def _times(folders: Iterable[Path]) -> dict[Path, int]:
    """When each folder last changed; without those that are gone."""
    found = {}
    for folder in folders:
        with suppress(FileNotFoundError):
            found[folder] = folder.stat().st_mtime_ns
    return found


def _ignore(_: str) -> None:
    """Pipes and broken links are no photos."""
