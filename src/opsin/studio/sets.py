"""The data sets that the studio shows: those of the command line, those uploaded, labelled and corrected here, those
that are built in.

A client names a data set by its key, never by a path. Each is loaded once, when it is first asked for.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from opsin.data.catalogue import ENTRIES
from opsin.io.temporary import is_temporary
from opsin.server.refusal import RequestError
from opsin.studio.labelled import is_labelled_folder, last_change, place_of
from opsin.text import text_of

if TYPE_CHECKING:
    from opsin.data.samples import Dataset

EMBEDDED = tuple(entry.name for entry in ENTRIES.values() if not entry.folder)
"""Sets that need no files."""
Origin = Literal["given", "uploaded", "labelled", "corrected", "embedded"]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A data set on the shelf: its key in addresses, its name, what `opsin.load` is asked for, whence it comes."""

    key: str
    name: str
    source: str
    origin: Origin
    about: str = ""

    @property
    def version(self) -> int:
        """A number that changes when its files do, of sets that the studio writes; looked up when it is asked."""
        return last_change(Path(self.source)) if self.origin in ("labelled", "corrected") else 0

    @property
    def photos(self) -> Path | None:
        """The folder whose photos can be labelled: one of the user's, or one that was uploaded."""
        own = self.origin == "uploaded" or (self.origin == "given" and self.source not in ENTRIES)
        return Path(self.source) if own and Path(self.source).is_dir() else None


class DataSets:
    """The data sets of a studio, loaded when they are asked for.

    Args:
        given: catalogue names and paths from the command line.
        uploads: folder in which each uploaded set is a folder.
        root: where catalogue sets lie.
        corrected: folder of the tables that verdicts have led to.
    """

    def __init__(self, given: Sequence[str], uploads: Path, root: str | None = None, *, corrected: Path) -> None:
        self.uploads, self.root, self.corrected = uploads, root, corrected
        self._given = _listed_given(given)
        self._loaded: dict[str, tuple[int, Dataset]] = {}
        self._loading: dict[str, Lock] = {}
        self._lock = Lock()

    def listed(self) -> list[Listed]:
        """All sets: those of the command line, uploaded ones, each with what was labelled of it, then the others."""
        taken = {item.source for item in self._given}
        built_in = [_embedded(name) for name in EMBEDDED if name not in taken]
        own = [found for item in (*self._given, *self._uploaded()) for found in (item, *_labelled(item))]
        return [*own, *self._corrected(), *built_in]

    def get(self, key: str) -> Listed:
        """The set of this key.

        Raises:
            RequestError: 404, there is none.
        """
        found = next((item for item in self.listed() if item.key == key), None)
        if found is None:
            raise RequestError(404, "no such data set", got=key[:100])
        return found

    def open(self, key: str) -> Dataset:
        """The data set of this key with its splits; who asks for one that is being loaded waits for it.

        Raises:
            RequestError: 404, there is none.
            RefusedError: it cannot be read.
        """
        item = self.get(key)
        with self._lock:
            loading = self._loading.setdefault(key, Lock())
        with loading:
            from opsin.data.load import load  # here, because the first page should not wait for torch

            known, version = self._loaded.get(key), item.version
            if known is None or known[0] != version:
                known = self._loaded[key] = version, load(item.source, root=self.root)
            return known[1]

    def key_of(self, source: str) -> str | None:
        """The key of the set that a run was trained on; None where it is not on the shelf."""
        same = (item.key for item in self.listed() if source in (item.source, str(Path(item.source).absolute())))
        return next(same, None)

    def _uploaded(self) -> list[Listed]:
        if not self.uploads.is_dir():
            return []
        folders = sorted(path for path in self.uploads.iterdir() if path.is_dir() and not is_temporary(path))
        return [
            Listed(key=f"own-{path.name}", name=path.name, source=str(path), origin="uploaded")
            for path in folders
            if re.fullmatch(r"[a-z0-9-]+", path.name) and not is_labelled_folder(path)
        ]

    def _corrected(self) -> list[Listed]:
        """Tables of corrected labels; their keys are their names, which the studio gave."""
        found: dict[str, Listed] = {}
        for path in sorted(self.corrected.glob("*.csv")):
            key = _free_key(f"corrected-{slug(path.stem)}", found)
            found[key] = Listed(key=key, name=path.stem, source=str(path), origin="corrected")
        return list(found.values())


def slug(text: str, *, longest: int = 40) -> str:
    """A name as a plain file name: lower-case letters, digits and hyphens.

    >>> slug("My Roses, 2024"), slug("../../etc"), slug("💐")
    ('my-roses-2024', 'etc', 'unnamed')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest].strip("-") or "unnamed"


def _free_key(stem: str, taken: Container[str]) -> str:
    return next(key for key in chain([stem], (f"{stem}-{n}" for n in count(2))) if key not in taken)


def _listed_given(given: Sequence[str]) -> list[Listed]:
    found: list[Listed] = []
    for source in given:
        name = source if source in ENTRIES else text_of(Path(source).absolute().name)
        key = _free_key(f"given-{slug(name)}", {item.key for item in found})
        about = ENTRIES[source].description if source in ENTRIES else source
        found.append(Listed(key=key, name=name, source=source, origin="given", about=about))
    return found


def _embedded(name: str) -> Listed:
    return Listed(
        key=f"built-in-{slug(name)}", name=name, source=name, origin="embedded", about=ENTRIES[name].description
    )


def _labelled(item: Listed) -> list[Listed]:
    """What was labelled of a folder of photos."""
    if (photos := item.photos) is None:
        return []
    place = place_of(photos)
    return [
        Listed(
            key=f"{kind}-of-{item.key}",
            name=f"{item.name}, {kind}",
            source=str(path),
            origin="labelled",
        )
        for kind, path in place.outputs().items()
    ]
