"""Data sets in shards, as `opsin data shard` writes them: read by their index, from a folder or an object store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.data.shards.index import INDEX, SplitIndex, Table, index_of, is_index, table_of
from opsin.data.shards.source import Names, ShardSource
from opsin.errors import ArchiveError, DataError, InputError
from opsin.io.arrays import read_npz
from opsin.io.caches import default_cache
from opsin.io.files import read_json, sha256_file
from opsin.io.remote import RemoteFolder, RemoteShards
from opsin.io.shards import DO_WRITE_AGAIN, LocalShards, ShardFiles
from opsin.text import printable
from opsin.types import SPLITS

Opener = Callable[[SplitIndex], ShardFiles]
"""Gives the shards of a split."""


def is_sharded(place: Place) -> bool:
    """Whether a folder holds shards with their index."""
    with suppress(InputError):
        return (place.path / INDEX).is_file() and is_index(read_json(place.path / INDEX))
    return False


def read_shards(place: Place) -> Found:
    """The splits of a folder of shards; no shard is opened.

    Raises:
        AnnotationError: the index or a table is damaged.
        ArchiveError: a table is not the one that the index names.
    """
    return _found(place.path, lambda split: LocalShards(place.path, split.shards))


def read_remote_shards(address: str, *, typed: bool) -> Found:
    """The splits of a folder of shards in an object store, of which index and tables are fetched.

    Args:
        address: of the folder.
        typed: the user typed it just now: an address that a file names is not followed.

    Raises:
        DataError: it was not typed.
        DownloadError: the store does not give them.
        AnnotationError, ArchiveError: as `read_shards`.
    """
    if not typed:
        do = f"type it yourself, as in `opsin evaluate RUN --data {printable(address)}`"
        raise DataError("an address that a file names is not followed", where=printable(address), do=do)
    remote, cache = RemoteFolder(address), default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as place:
        folder = Path(place)
        (folder / INDEX).write_bytes(remote.read(INDEX))
        index = index_of(read_json(folder / INDEX), address)
        for split in index.splits.values():
            (folder / split.table.name).write_bytes(remote.read(split.table.name))
        found = _found(folder, lambda split: RemoteShards(remote, split.shards, cache / "shards"))
    return replace(found, root=None, notes=(*found.notes, f"read from {printable(address)}"))


def _found(folder: Path, files: Opener) -> Found:
    index = index_of(read_json(folder / INDEX), folder / INDEX)
    num_shards = sum(len(split.shards) for split in index.splits.values())
    return Found(
        name=index.name,
        task=index.task,
        classes=index.classes,
        layout=f"{num_shards} shards",
        splits={
            name: _source(index.splits[name], _table(folder, index.splits[name]), files)
            for name in SPLITS
            if name in index.splits
        },
        published=index.published,
        near_copies_kept=index.near_copies_kept,
        root=folder,
        notes=index.notes,
        description=index.description,
    )


def _table(folder: Path, split: SplitIndex) -> Table:
    path = folder / split.table.name
    if not path.is_file() or sha256_file(path) != split.table.sha256:
        raise ArchiveError("a table of shards is missing or was changed", where=path, do=DO_WRITE_AGAIN)
    return table_of(read_npz(path), split, path)


def _source(split: SplitIndex, table: Table, files: Opener) -> ShardSource:
    return ShardSource(
        ids=Names(table.names, table.ends),
        files=files(split),
        raw=split.raw,
        channels=split.channels,
        shard=table.shard,
        places=table.places,
        mask_places=table.masks,
        sizes=table.sizes,
        digests=table.digests,
        levels=None if split.levels is None else np.array(split.levels, np.int64),
        labels=table.targets.get("labels"),
        boxes=table.targets.get("boxes"),
        tags=table.targets.get("tags"),
        numbers=table.targets.get("numbers"),
    )
