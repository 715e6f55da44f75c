"""From a name, a path or arrays to what a reader recognized."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from opsin import plugins
from opsin.config import DataConfig
from opsin.data.catalogue import ENTRIES, locate
from opsin.data.hub import is_hub_name, snapshot
from opsin.data.readers.found import Found
from opsin.data.readers.layouts import read_layout
from opsin.data.readers.place import Place
from opsin.data.transport import archive_stem, downloaded, is_address, is_archive, unpacked
from opsin.errors import ConfigError, DataError, nearest
from opsin.io.remote import is_remote
from opsin.progress import QUIET, Reporter
from opsin.text import path_of
from opsin.types import TaskName

MADE = {
    "digit_scenes": ("digit_scenes:read_scenes", ()),
    "digit_masks": ("digit_masks:read_digit_masks", ("scenes",)),
    "digit_tags": ("digit_tags:read_digit_tags", ("scenes", "scene_digits")),
}
"""Generated data sets: the module in `data.made` and its function of root and settings; the scene settings it
accepts, all where none are named."""


def find(
    source: str | Path | Mapping[str, Any],
    *,
    root: str | Path | None,
    config: DataConfig,
    task: TaskName | None = None,
    typed: bool = True,
    report: Reporter = QUIET,
) -> Found:
    """Recognize and read a data set as its publisher divides it; `task` decides where a folder could serve two.

    `typed`: whether an address may be fetched, since the user typed it.

    Raises:
        DataError: nothing is there, or it is of no known layout.
    """
    if isinstance(source, Mapping):
        from opsin.data.readers.array_files import read_mapping

        return read_mapping(source, config, name="arrays", where="arrays")
    if str(source) in MADE and config.label_level is None:
        return _made(str(source), root, config)
    _refuse_scene_settings(config)
    if str(source) in ENTRIES:
        from opsin.data.readers.publishers import read_entry

        entry = ENTRIES[str(source)]
        return read_entry(entry, locate(entry, root), config)
    if config.label_level is not None:
        raise ConfigError(
            "setting `label_level` applies only to catalogue sets with several",
            got=config.label_level,
            do="leave out --label-level",
        )
    if is_remote(source):
        from opsin.data.readers.shards import read_remote_shards

        return read_remote_shards(str(source), typed=typed)
    path, name, notes = _brought(str(source), typed=typed, report=report)
    found = _from_outside(path) or read_layout(Place(path=path, config=config, task=task))
    return replace(found, name=name or found.name, notes=(*notes, *found.notes))


def _brought(source: str, *, typed: bool, report: Reporter) -> tuple[Path, str | None, list[str]]:
    """Where a user's own data lie on this disk, the name of the archive that they came in, and notes that say so.

    Raises:
        DataError: nothing is there.
        InputError: a download failed, or an archive is refused.
    """
    notes: list[str] = []
    if is_hub_name(source) or is_address(source):
        bring = snapshot if is_hub_name(source) else downloaded
        path, note = bring(source, typed=typed, report=report)
        notes.append(note)
    else:
        path = _at(Path(source))
    if not is_archive(path):
        return path, None, notes
    folder, note = unpacked(path)
    return folder, archive_stem(path), [*notes, note]


def _made(name: str, root: str | Path | None, config: DataConfig) -> Found:
    """A set that is made by the code."""
    place, taken = MADE[name]
    if taken:
        _refuse_scene_settings(config, taken)
    module, function = place.split(":")
    made: Found = getattr(import_module(f"opsin.data.made.{module}"), function)(root, config)
    return made


def _from_outside(path: Path) -> Found | None:
    """What a registered layout makes of `path`; the first that recognizes it."""
    readers = (plugins.find("layouts", name) for name in plugins.names("layouts"))
    return next((found for reader in readers if reader and (found := reader(path)) is not None), None)


def _refuse_scene_settings(config: DataConfig, taken: tuple[str, ...] = ()) -> None:
    """Refuse scene settings, except those in `taken`, for data sets that are not generated."""
    names = [f for f in fields(config) if f.name.startswith("scene") and f.name not in taken]
    given = [f.name for f in names if getattr(config, f.name) != f.default]
    if given:
        raise ConfigError(
            f"setting `{given[0]}` applies only to `digit_scenes`", got=", ".join(given), do="leave it out"
        )


def _at(path: Path) -> Path:
    """A path that is there; a run may have stored it as text.

    Raises:
        DataError: nothing is there.
    """
    with suppress(OSError):  # longer than a name can be
        if path.exists():
            return path
        if path_of(str(path)).exists():
            return path_of(str(path))
    raise _nothing_at(path)


def _nothing_at(path: Path) -> DataError:
    close = nearest(str(path), ENTRIES)
    return DataError(
        "no data set of this name, and no such file or folder",
        where=path.absolute(),
        got=str(path),
        expected=f"one of {', '.join(ENTRIES)}, or a path",
        do=f"did you mean `{close}`?" if close else "`opsin data list` shows the catalogue",
    )
