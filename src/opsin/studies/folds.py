"""Folds of a data set: groups, copies and class shares as in its drawn splits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from opsin.config import DataConfig
from opsin.data.pack import usable_cache
from opsin.data.quality.copies import Copies, find_copies
from opsin.data.samples import Dataset, Ints, Source
from opsin.data.splits import draw, joined
from opsin.errors import ConfigError, DataError
from opsin.progress import QUIET, Reporter
from opsin.types import SplitName

SMALLEST_FOLD = 0.5
"""Least size of a fold as a share of an even one: where near copies prevent it, only exact ones stay together."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One fold: `dataset` has the splits train and val, drawn from the other folds; `held_out` int64 [n] are the
    development samples of this fold, which are in no split."""

    number: int
    dataset: Dataset
    held_out: Source
    rows: Ints


@dataclass(frozen=True, kw_only=True)
class Development:
    """All samples but those of test: train, then val.

    `origin`: the split of each sample in the data set. `copies`: groups of copies; None where the
    publisher defines groups. `notes`: how the folds will be drawn, as text.
    """

    dataset: Dataset
    source: Source
    origin: tuple[str, ...]
    copies: Copies | None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.source)


def development(dataset: Dataset, *, report: Reporter = QUIET) -> Development:
    """The samples of a data set that folds may be drawn from; test stays sealed.

    Raises:
        DataError: train and val have different kinds of source.
    """
    names = [split for split in ("train", "val") if split in dataset.splits]
    sources = [dataset.splits[split] for split in names]  # type: ignore[index]
    source = joined(sources)
    origin = tuple(split for split, part in zip(names, sources, strict=True) for _ in range(len(part)))
    copies = None if source.groups is not None else find_copies(source, cache=usable_cache(), report=report)
    return Development(dataset=dataset, source=source, origin=origin, copies=copies)


def draw_folds(pool: Development, num_folds: int, config: DataConfig) -> tuple[Ints, tuple[str, ...]]:
    """The number of the fold of each development sample, int64 [N], and notes on near copies.

    Raises:
        ConfigError: fewer than two folds.
        DataError: too few samples or groups for so many folds.
    """
    if num_folds < 2:
        raise ConfigError("setting `folds` is out of range", got=num_folds, expected="2 or more")
    exact = None if pool.copies is None else replace(pool.copies, near=None)
    plain = _drawn(pool.source, num_folds, config, exact)
    if pool.copies is None:
        return plain, ("groups were kept in one fold",)
    if not pool.copies.num_near:
        return plain, ()
    with suppress(DataError):
        together = _drawn(pool.source, num_folds, config, pool.copies)
        if np.bincount(together, minlength=num_folds).min() >= SMALLEST_FOLD * len(pool) / num_folds:
            return together, (f"{pool.copies.num_near:,} images have near copies: they were kept in one fold",)
    return plain, (
        f"{pool.copies.num_near:,} images have near copies, in chains too long to keep in one fold: scores will "
        "be too high. Give a table with a column `group`",
    )


def _drawn(source: Source, num_folds: int, config: DataConfig, copies: Copies | None) -> Ints:
    parts = draw(source, [1 / num_folds] * (num_folds - 1), config, copies)
    fold = np.zeros(len(source), np.int64)
    for number, rows in enumerate(parts):
        fold[rows] = number
    return fold


def folds_of(pool: Development, fold: Ints, config: DataConfig) -> Iterator[Fold]:
    """The data set of each fold: what is not held out is divided into train and val as `config` says.

    Everything that training chooses (its best epoch, the weight decay of a head) is chosen on that val, so that
    held-out samples have no influence.
    """
    for number in range(int(fold.max()) + 1):
        rest, rows = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        copies = None if pool.copies is None else restricted(pool.copies, rest)
        train, val = draw(pool.source.take(rest), (config.val_fraction,), config, copies)
        splits: dict[SplitName, Source] = {"train": pool.source.take(rest[train]), "val": pool.source.take(rest[val])}
        dataset = replace(pool.dataset, splits=splits, notes=(f"fold {number + 1}: its samples are held out",))
        yield Fold(number=number, dataset=dataset, held_out=pool.source.take(rows), rows=rows)


def restricted(copies: Copies, rows: Ints) -> Copies:
    """The groups of copies among the samples `rows`, by position in `rows`."""
    keys = None if copies.keys is None else [copies.keys[i] for i in rows]

    def within(groups: Ints) -> Ints:
        _, first, inverse = np.unique(groups[rows], return_index=True, return_inverse=True)
        if keys is None:
            return np.asarray(first[inverse], np.int64)
        lowest = first.copy()
        for place, group in enumerate(inverse):
            if keys[place] < keys[lowest[group]]:
                lowest[group] = place
        return np.asarray(lowest[inverse], np.int64)

    near = None if copies.near is None else within(copies.near)
    return Copies(exact=within(copies.exact), near=near, keys=keys)
