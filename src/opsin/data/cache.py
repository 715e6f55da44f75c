"""The cache folder: listing its entries and pruning them.

    packed/KEY/             decoded images of a split at one size
    features/KEY/           frozen features of such images
    unpacked/KEY/NAME/      what an archive that was trained on holds
    downloads/KEY/NAME      an archive that was fetched from an address
    files/KEY.json          hashes and sizes of a set's files (`data/file_facts.py`)
    copies/KEY.json         near copies among them
    precision-….json        the precision chosen for a network on this machine

Missing entries are rebuilt when needed.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from opsin.data.hub import COMMIT
from opsin.data.pack import default_cache
from opsin.errors import InputError
from opsin.io.files import read_json, remove_folder, writing
from opsin.io.temporary import abandoned, is_temporary, owner_lives, remove_abandoned
from opsin.types import JsonDict

KINDS = ("packed", "features", "unpacked", "downloads")
FILE_KINDS = {"files": "hashes and sizes of the files of a set", "copies": "near copies among the files of a set"}
"""Kinds whose entries are files, and what is in them."""
DAY_S = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One entry of the cache.

    `kind`: one of `KINDS` or `FILE_KINDS`, or unfinished. `about`: the data set and split, as far as known.
    `size_bytes`: on disk. `age_days`: days since it was last written.
    """

    path: Path
    kind: str
    about: str
    size_bytes: int
    age_days: float

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        plain = {"kind": self.kind, "about": self.about, "bytes": self.size_bytes, "age_days": round(self.age_days, 2)}
        return {"path": str(self.path), **plain}


def cache_entries(cache: Path | None = None) -> list[CacheEntry]:
    """The entries of the cache, largest first; empty without a cache.

    Args:
        cache: its folder; None is `default_cache()`.
    """
    folder = default_cache() if cache is None else cache
    paths = [path for kind in KINDS for path in (folder / kind).glob("*") if path.is_dir()]
    paths += [path for kind in FILE_KINDS for path in (folder / kind).glob("*.json")]
    return sorted((_entry(path) for path in paths), key=lambda entry: -entry.size_bytes)


def prune_cache(cache: Path | None = None, *, older_than_days: float = 0.0) -> list[CacheEntry]:
    """Remove entries, and incomplete files of killed processes; returns the removed entries.

    Entries that another process is writing are kept. A run that has mapped an entry keeps it until it ends.

    Args:
        cache: its folder; None is `default_cache()`.
        older_than_days: remove entries written more than this many days ago; 0 removes all.

    Raises:
        WriteError: an entry cannot be removed.
    """
    folder = default_cache() if cache is None else cache
    gone = {path: _entry(path) for path in abandoned(folder, ("*", "*/*"))}
    remove_abandoned(folder, ("*", "*/*"))
    removed = [entry for path, entry in gone.items() if not os.path.lexists(path)]
    for entry in cache_entries(folder):
        if entry.age_days >= older_than_days and not is_temporary(entry.path):
            if entry.kind in FILE_KINDS:
                with writing(entry.path):
                    entry.path.unlink(missing_ok=True)
            else:
                remove_folder(entry.path)
            removed.append(entry)
    return removed


def _entry(path: Path) -> CacheEntry:
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.exists()]
    newest = max((stat.st_mtime for stat in stats), default=time.time())
    size = sum(stat.st_size for stat, file in zip(stats, files, strict=False) if not file.is_dir())
    age = max(0.0, time.time() - newest) / DAY_S
    kind = "unfinished" if is_temporary(path) else path.parent.name
    return CacheEntry(path=path, kind=kind, about=_about(path), size_bytes=size, age_days=age)


def _about(path: Path) -> str:
    """Description of an entry: the data, and the shape of the images."""
    if is_temporary(path):
        return "left by a process that has ended" if owner_lives(path) is False else "being written"
    if path.parent.name in FILE_KINDS:
        return FILE_KINDS[path.parent.name]
    if path.parent.name in ("unpacked", "downloads"):
        return ", ".join(
            sorted(child.name for child in path.iterdir() if child.name != COMMIT and not is_temporary(child))
        )
    try:
        manifest = read_json(path / "manifest.json")
        shape = manifest["files"]["images.bin"]["shape"] if "files" in manifest else manifest["shape"]
        return f"{manifest.get('about', 'data not recorded')}, {' x '.join(map(str, shape))}"
    except (InputError, KeyError, TypeError):
        return "damaged: it is rebuilt when needed"
