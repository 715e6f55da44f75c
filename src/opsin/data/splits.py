"""Splits: the first n of a split, and drawing val and test by seed, stratified or by groups."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from opsin.config import DataConfig
from opsin.data.quality.copies import Copies
from opsin.data.samples import Ints, Source
from opsin.data.shards.source import ShardSource, joined_shards
from opsin.data.targets import KINDS
from opsin.errors import ConfigError, DataError, nearest
from opsin.types import SPLITS, SplitName

TEST_FRACTION = 0.1
"""Share of an undivided set that becomes `test`."""


def parse_subset(text: str | None) -> dict[SplitName, int]:
    """Sizes by split from `train=10000,test=2000`.

    >>> parse_subset("train=10000,test=2000")
    {'train': 10000, 'test': 2000}

    Raises:
        ConfigError: another form, an unknown split, a split named twice, or not a positive number.
    """
    sizes: dict[SplitName, int] = {}
    for part in (text or "").split(",") if text else ():
        name, _, number = (piece.strip() for piece in part.partition("="))
        split = next((split for split in SPLITS if split == name), None)
        if split is None or split in sizes or not number.isdecimal() or int(number) < 1:
            close = nearest(name, SPLITS)
            raise ConfigError(
                "setting `subset` is invalid",
                got=text,
                expected="e.g. train=10000,test=2000: each split once, with a number of samples",
                do=f"did you mean `{close}`?" if close and split is None else None,
            )
        sizes[split] = int(number)
    return sizes


def first_samples(splits: Mapping[SplitName, Source], sizes: Mapping[SplitName, int]) -> dict[SplitName, Source]:
    """The first n samples of each split that `sizes` names, in the publisher's order; other splits as they are.

    Raises:
        ConfigError: a split does not exist or is smaller than that.
    """
    for name, size in sizes.items():
        got = len(splits[name]) if name in splits else 0
        if size > got:
            raise ConfigError(
                f"setting `subset` requests more of `{name}` than there is",
                got=f"{name}={size}",
                expected=f"at most {got:,}" if got else f"one of: {', '.join(splits)}",
            )
    return {name: source.take(np.arange(sizes[name])) if name in sizes else source for name, source in splits.items()}


def joined(sources: Sequence[Source]) -> Source:
    """Several sources of one kind as one, in order.

    Raises:
        DataError: they are of different kinds.
    """
    first = sources[0]
    if len(sources) == 1:
        return first
    kinds = {(type(source), source.groups is None, source.channels, getattr(source, "raw", None)) for source in sources}
    if len(kinds) > 1:
        got = " and ".join(sorted(kind.__name__ for kind, *_ in kinds))
        raise DataError(
            "splits of different layouts cannot be joined",
            got=got,
            do="bring both into one layout",
        )
    parts = [vars(source) for source in sources]
    rows = getattr(first, "_rows", ())
    fields = {name: _joined_rows([part[name] for part in parts]) for name in rows}
    if isinstance(first, ShardSource):
        fields |= joined_shards(cast("Sequence[ShardSource]", sources))
    return replace(first, **fields)  # type: ignore[type-var]


def _joined_rows(rows: Sequence[object]) -> object:
    if any(row is None for row in rows):
        return None
    if isinstance(rows[0], np.ndarray):
        return np.concatenate([np.asarray(row) for row in rows])
    return [item for row in rows for item in row]  # type: ignore[attr-defined]


def divide(pool: Source, config: DataConfig, copies: Copies | None = None) -> dict[SplitName, Source]:
    """Train, val and test drawn from an undivided set: 10 % test, `val_fraction` val."""
    parts = draw(pool, (TEST_FRACTION, config.val_fraction), config, copies)
    return {"train": pool.take(parts[0]), "val": pool.take(parts[2]), "test": pool.take(parts[1])}


def hold_out(train: Source, config: DataConfig, copies: Copies | None = None) -> dict[SplitName, Source]:
    """Train and val drawn from a train split."""
    parts = draw(train, (config.val_fraction,), config, copies)
    return {"train": train.take(parts[0]), "val": train.take(parts[1])}


def draw(source: Source, fractions: Sequence[float], config: DataConfig, copies: Copies | None = None) -> list[Ints]:
    """Sample numbers of the rest and of each drawn part, ascending: `[rest, part of fractions[0], ...]`.

    Groups are kept whole; without groups, copies are. With `stratify` each part has each class in its share, to within
    one sample and as far as copies permit. Samples with known content are drawn by it and the seed: neither order nor
    names matter, and most keep their split when others are added.

    Args:
        copies: groups of copies; None when all samples differ.

    Raises:
        DataError: too few samples or groups to draw from.
    """
    shares = np.array([1 - sum(fractions), *fractions])
    if shares[0] <= 0:
        raise ConfigError(
            "nothing would be left for `train`",
            got=f"shares {list(fractions)}",
            expected="a sum below 1",
            do="lower --val-fraction",
        )
    generator = np.random.default_rng(config.split_seed)
    strata = _strata(source) if config.stratify else np.zeros(len(source), np.int64)
    if source.groups is not None:
        part = _draw_groups(strata, source.groups, shares, generator)
    else:
        part = _draw_samples(strata, shares, config.split_seed, generator, copies)
    parts = [np.flatnonzero(part == k) for k in range(len(shares))]
    if any(len(indices) == 0 for indices in parts):
        together = 0 if copies is None else len(source) - len(np.unique(_groups(copies)))
        equal = f" ({together} of them copies of another one, and kept with it)" if together else ""
        raise DataError(
            "too few samples to draw the splits from",
            got=f"{len(source)} samples{equal}, drawn as {[len(indices) for indices in parts]}",
            expected="at least one sample in each split",
            do="add images, or divide them into train/val/test yourself",
        )
    return parts


def _strata(source: Source) -> Ints:
    """The stratum of each sample, by the first kind of target that has any; one for all where none does."""
    found = (KINDS[kind].strata(rows) for kind, rows in source.targets.items())
    return next((strata for strata in found if strata is not None), np.zeros(len(source), np.int64))


def _groups(copies: Copies) -> Ints:
    return copies.exact if copies.near is None else copies.near


def _draw_samples(
    strata: Ints, shares: NDArray[np.float64], seed: int, generator: np.random.Generator, copies: Copies | None
) -> Ints:
    """Part of each sample: shares hold within each stratum to within one sample, and over all exactly.

    Copies follow their representative.
    """
    leaders, group_of = np.unique(np.arange(len(strata)) if copies is None else _groups(copies), return_inverse=True)
    sizes, part = np.bincount(group_of), np.zeros(len(leaders), np.int64)
    counts = np.unique(strata[leaders], return_counts=True)[1]
    members = np.split(np.argsort(strata[leaders], kind="stable"), np.cumsum(counts)[:-1])
    quotas = _whole_quotas(np.array([sizes[m].sum() for m in members]), shares)
    keys = None if copies is None else copies.keys
    for indices, quota in zip(members, quotas, strict=True):
        if keys is None:
            order = generator.permutation(indices)
        else:
            order = np.array(sorted(indices, key=lambda group: _rank(keys[int(leaders[group])], seed)), np.int64)
        part[order] = _filled(sizes[order], quota)
    return part[group_of]


def _rank(key: str, seed: int) -> bytes:
    """Position of content in the drawing order: random, and a function of content and seed only."""
    return hashlib.blake2b(f"{seed} {key}".encode(), digest_size=16).digest()


def _filled(sizes: Ints, quota: Ints) -> Ints:
    """Part of each group: from the end, each part but the first takes groups that fit until its quota is met."""
    part = np.zeros(len(sizes), np.int64)
    for k in range(len(quota) - 1, 0, -1):
        left = quota[k]
        for group in range(len(sizes) - 1, -1, -1):
            if left == 0:
                break
            if part[group] == 0 and sizes[group] <= left:
                part[group] = k
                left -= sizes[group]
    return part


def _whole_quotas(counts: Ints, shares: NDArray[np.float64]) -> Ints:
    """Whole numbers near `counts x shares`: `[strata, parts]`, rows sum to `counts`, drawn parts to their share of all.

    Largest remainders, part by part; the rest of each row goes to part 0, which keeps a sample of every stratum.
    """
    quotas = np.zeros((len(counts), len(shares)), np.int64)
    for part in range(1, len(shares)):
        exact = counts * shares[part]
        quotas[:, part] = np.floor(exact + 1e-9)
        missing = round(counts.sum() * shares[part]) - quotas[:, part].sum()
        spare = counts - quotas.sum(1) > 1
        order = np.argsort(-(exact - quotas[:, part]) + ~spare * 2.0, kind="stable")
        quotas[order[: min(missing, spare.sum())], part] += 1
    quotas[:, 0] = counts - quotas[:, 1:].sum(1)
    return quotas


def _draw_groups(
    strata: Ints, groups: Sequence[str], shares: NDArray[np.float64], generator: np.random.Generator
) -> Ints:
    """Part of each sample, whole groups at a time: each goes where class counts come closest to their shares."""
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    table = np.zeros((len(names), int(strata.max()) + 1))
    np.add.at(table, (group_of, strata), 1)
    target = shares[:, None] * table.sum(0)
    shuffled = generator.permutation(len(names))
    order = shuffled[np.argsort(-table[shuffled].sum(1), kind="stable")]
    filled, part_of_group = np.zeros_like(target), np.zeros(len(names), np.int64)
    for group in order:
        gap = target - filled
        gain = (gap**2).sum(1) - ((gap - table[group]) ** 2).sum(1)
        part_of_group[group] = int(np.argmax(gain))
        filled[part_of_group[group]] += table[group]
    return part_of_group[group_of]
