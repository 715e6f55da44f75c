"""Writing a data set as shards: each image is decoded once, to be sure that training can read it, and kept as it is.

The order of train is drawn by a seed before it is written, since training later shuffles shards and, within a window,
samples: a set that lies class by class would come class by class. The other splits keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opsin.data.pack import unreadable
from opsin.data.samples import Dataset
from opsin.data.shards.index import CLASSES, INDEX, Index, SplitIndex
from opsin.data.shards.split_writer import SplitWriter
from opsin.data.sources import FileSource
from opsin.errors import ConfigError
from opsin.io.files import atomic_folder, write_atomically, write_json
from opsin.ops.random import permutation

MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written. `samples`: by split. `skipped`: ids of unreadable samples that were left out on request."""

    folder: Path
    index: Index
    skipped: tuple[str, ...]

    @property
    def num_shards(self) -> int:
        """Number of tars."""
        return sum(len(split.shards) for split in self.index.splits.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of all tars and tables."""
        files = [file for split in self.index.splits.values() for file in (split.table, *split.shards)]
        return sum(file.num_bytes for file in files)


def write_shards(
    dataset: Dataset,
    out: Path,
    *,
    shard_mb: float = 64.0,
    seed: int = 0,
    skip_unreadable: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write all splits of a data set as shards into a new folder, which appears whole or not at all.

    Args:
        dataset: its splits are written as they are drawn.
        out: the new folder.
        shard_mb: a shard is ended before it grows beyond this many MiB; it holds one sample at least.
        seed: seed of the order of train.
        skip_unreadable: number of unreadable samples per split to leave out.
        progress: called from time to time with (samples done, samples in all).

    Raises:
        NameTakenError: `out` exists.
        ConfigError: `shard_mb` is out of range.
        DataError: more samples are unreadable than that; all are listed.
        WriteError: the disk is full, faulty or forbids it; nothing is left of the folder.
    """
    if not 0.01 <= shard_mb <= 4096:
        raise ConfigError(
            "the size of a shard is out of range", where="--shard-mb", got=shard_mb, expected="0.01 to 4096"
        )
    total, done = sum(len(source) for source in dataset.splits.values()), 0
    splits: dict[str, SplitIndex] = {}
    skipped: list[str] = []
    with atomic_folder(out) as new:
        for name, source in dataset.splits.items():
            order = permutation(len(source), seed, 0, "shards").numpy() if name == "train" else np.arange(len(source))
            writer = SplitWriter(folder=new, split=name, source=source, max_bytes=round(shard_mb * MEBIBYTE))
            for count in writer.write(order):
                if progress is not None:
                    progress(done + count, total)
            done += len(source)
            if len(writer.failures) > skip_unreadable:
                raise unreadable(source, sorted(writer.failures), name, skip_unreadable)
            skipped += [source.ids[i] for i, _ in sorted(writer.failures)]
            splits[name] = writer.ended(len(dataset.classes))
        index = _card(dataset, splits, skipped, seed)
        write_atomically(new / CLASSES, "".join(f"{' '.join(c.split())}\n" for c in dataset.classes).encode())
        write_json(new / INDEX, index.to_json())
    return Written(folder=out, index=index, skipped=tuple(skipped))


def _card(dataset: Dataset, splits: dict[str, SplitIndex], skipped: Sequence[str], seed: int) -> Index:
    left_out = [f"{len(skipped)} unreadable samples were left out when the shards were written"] if skipped else []
    if any(source.groups is not None for source in dataset.splits.values()):
        left_out.append("groups of samples are kept within splits, and not in the shards: folds would not know them")
    deep = sum(int(source.facts.deep.sum()) for source in dataset.splits.values() if isinstance(source, FileSource))
    if deep:
        left_out.append(f"{deep:,} images have 16 bits a channel: from shards they are read as 8")
    notes = (*dataset.notes, *left_out, f"the order of train in the shards was drawn with seed {seed}")
    return Index(
        name=dataset.name,
        task=dataset.task,
        classes=tuple(dataset.classes),
        splits=splits,
        published=dataset.published,
        near_copies_kept=dataset.near_copies_kept,
        description=dataset.description,
        notes=notes,
    )
