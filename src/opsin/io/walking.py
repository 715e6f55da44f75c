"""What lies below a folder, in natural order."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from opsin.errors import InputError
from opsin.io.files import PathLike
from opsin.io.gate import printable, refusing

MAX_FILES = 10_000_000
MAX_DIGITS = 4000
"""Numbers of more digits come after all others: Python refuses to read those of 4,300."""
DIGITS = re.compile("([0-9]+)")


def natural_key(name: str) -> tuple[tuple[str | float, ...], str]:
    """Sort key that puts 2 before 10, ignoring case first; ties are broken by the plain name.

    >>> sorted(["b10", "a", "b2"], key=natural_key)
    ['a', 'b2', 'b10']
    """
    texts = DIGITS.split(name.casefold())  # text and digits by turns
    parts: list[str | float] = [*texts]
    parts[1::2] = [int(digits) if len(digits) < MAX_DIGITS else math.inf for digits in texts[1::2]]
    return tuple(parts), name


@dataclass(frozen=True)
class PathsBelow(Sequence[Path]):
    """Paths of the files `names`, "/" between folders, below `root`; each is made when it is asked for."""

    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, i: int) -> Path: ...
    @overload
    def __getitem__(self, i: slice) -> PathsBelow: ...
    def __getitem__(self, i: int | slice) -> Path | PathsBelow:
        return PathsBelow(self.root, self.names[i]) if isinstance(i, slice) else self.root / self.names[i]

    def take(self, indices: Sequence[int]) -> PathsBelow:
        """Those of these numbers, in this order."""
        return PathsBelow(self.root, [self.names[i] for i in indices])

    @property
    def texts(self) -> list[str]:
        """The paths as text: `[str(path) for path in self]`, without making a path of each."""
        begin = str(self.root / "_")[:-1]
        return [begin + name for name in self.names] if os.sep == "/" else [str(path) for path in self]


def walk_files(root: PathLike, report: Callable[[str], None] | None = None) -> list[Path]:
    """All regular files below a folder, in natural order, as paths that begin with `root`.

    Links are followed inside `root`; each folder is read once, so loops end. `report` is called with one line for each
    thing that is left out: pipes, sockets, devices, broken links, links to folders read already.

    Raises:
        InputError: no such folder; a link leads out of `root`; or something is left out and there is no `report`.
    """
    return list(PathsBelow(Path(root), walk(root, report)[0]))


def walk(root: PathLike, report: Callable[[str], None] | None = None) -> tuple[list[str], list[Path]]:
    """The files of `walk_files` as names relative to `root` with "/" between folders, and the folders that were read.

    While none of the folders changes, neither does the list of files.
    """
    top = Path(root)
    with refusing(InputError, top, "the folder cannot be read"):
        if not top.is_dir():
            raise InputError("no such folder", where=printable(top), expected="a folder")
        return _walk(top, report)


def _walk(top: Path, report: Callable[[str], None] | None) -> tuple[list[str], list[Path]]:
    root, files, seen = top.resolve(), list[str](), dict[Path, Path]()
    pending = [(top, "")]  # folders, and what the names of their files begin with
    while pending:
        here, begin = pending.pop()
        real = here.resolve()
        if real in seen:
            _leave_out(here, f"a link to the folder {printable(seen[real])}, which is read already", report or _quiet)
            continue
        seen[real] = here
        folders = []
        for entry in _entries(here):
            name = begin + entry.name
            linked = entry.is_symlink()
            if linked:
                _check_inside(here / entry.name, root)
            known = here / entry.name if linked else entry  # an entry knows its kind without a look at the disk
            if known.is_dir():
                folders.append((here / entry.name, f"{name}/"))
            elif known.is_file():
                files.append(name)
            else:
                _leave_out(here / entry.name, "not a regular file, or a broken link", report)
        if len(files) > MAX_FILES:
            raise InputError("too many files", where=printable(top), got=f"> {MAX_FILES}", expected=MAX_FILES)
        pending.extend(reversed(folders))
    return files, list(seen)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, in natural order."""
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: natural_key(entry.name))


def _quiet(_: str) -> None:
    """A loop that ends loses no file: nobody needs to be told."""


def _check_inside(link: Path, root: Path) -> None:
    target = Path(os.path.realpath(link))
    if not target.is_relative_to(root):
        do = "copy what it points to into the folder, or remove the link"
        raise InputError("a link leads out of the folder", where=printable(link), got=printable(target), do=do)


def _leave_out(path: Path, why: str, report: Callable[[str], None] | None) -> None:
    if report is None:
        raise InputError("cannot be read as a file", where=printable(path), got=why, do="remove it from the folder")
    report(f"{printable(path)}: {why}")
