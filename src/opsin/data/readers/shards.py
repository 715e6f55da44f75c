"""Data sets in shards, as `opsin data shard` writes them: read by their index."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.data.shards.index import INDEX, SplitIndex, Table, index_of, is_index, table_of
from opsin.data.shards.source import Names, ShardSource
from opsin.errors import ArchiveError, InputError
from opsin.io.arrays import read_npz
from opsin.io.files import read_json, sha256_file
from opsin.io.shards import DO_WRITE_AGAIN, LocalShards
from opsin.types import SPLITS, SplitName


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
    folder = place.path
    index = index_of(read_json(folder / INDEX), folder / INDEX)
    splits: dict[SplitName, ShardSource] = {}
    for name in SPLITS:
        if name in index.splits:
            split = index.splits[name]
            splits[name] = _source(split, _table(folder, split), LocalShards(folder, split.shards))
    num_shards = sum(len(split.shards) for split in index.splits.values())
    return Found(
        name=index.name,
        task=index.task,
        classes=index.classes,
        layout=f"{num_shards} shards",
        splits=splits,
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


def _source(split: SplitIndex, table: Table, files: LocalShards) -> ShardSource:
    return ShardSource(
        ids=Names(table.names, table.ends),
        files=files,
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
