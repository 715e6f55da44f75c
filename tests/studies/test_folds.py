"""Folds: disjoint, covering, with groups and copies whole and class shares kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from opsin.config import DataConfig
from opsin.data.load import load
from opsin.data.quality.copies import Copies
from opsin.data.samples import Dataset
from opsin.data.sources import ArraySource
from opsin.errors import ConfigError, DataError
from opsin.studies.folds import development, draw_folds, folds_of, joined, restricted


def made(groups: list[str] | None = None, num_samples: int = 120) -> Dataset:
    """Images without copies, two classes in turn."""
    generator = np.random.default_rng(0)
    source = ArraySource(
        ids=[f"sample {i}" for i in range(num_samples)],
        labels=np.arange(num_samples) % 2,
        groups=groups,
        images=generator.integers(0, 256, (num_samples, 1, 8, 8)).astype(np.uint8),
    )
    half = num_samples * 3 // 4
    splits = {"train": source.take(np.arange(half)), "val": source.take(np.arange(half, num_samples))}
    return Dataset(name="made", task="classify", classes=("a", "b"), splits=splits, layout="made")  # type: ignore[arg-type]


def test_each_development_sample_is_held_out_once_and_no_test_sample_is_used() -> None:
    dataset = load("digits")
    pool = development(dataset)
    fold, _ = draw_folds(pool, 5, DataConfig())
    ids = [name for part in folds_of(pool, fold, DataConfig()) for name in part.held_out.ids]
    used = {name for part in folds_of(pool, fold, DataConfig()) for s in part.dataset.splits.values() for name in s.ids}
    assert sorted(ids) == sorted([*dataset.splits["train"].ids, *dataset.splits["val"].ids])
    assert not (used | set(ids)) & set(dataset.splits["test"].ids)


def test_what_a_fold_holds_out_is_in_none_of_its_splits() -> None:
    pool = development(made())
    fold, _ = draw_folds(pool, 4, DataConfig())
    for part in folds_of(pool, fold, DataConfig()):
        inside = [set(source.ids) for source in part.dataset.splits.values()]
        assert set(part.dataset.splits) == {"train", "val"}
        assert not inside[0] & inside[1]
        assert not set(part.held_out.ids) & (inside[0] | inside[1])
        assert len(inside[0]) + len(inside[1]) + len(part.held_out) == len(pool)


def test_classes_keep_their_shares_in_every_fold() -> None:
    pool = development(made())
    fold, _ = draw_folds(pool, 4, DataConfig())
    assert np.bincount(fold).tolist() == [30, 30, 30, 30]
    labels = pool.source.labels
    assert labels is not None
    assert [int(labels[fold == k].sum()) for k in range(4)] == [15, 15, 15, 15]


def test_groups_stay_in_one_fold_and_in_one_split_of_the_rest() -> None:
    groups = [f"patient {i // 6}" for i in range(120)]
    pool = development(made(groups))
    fold, notes = draw_folds(pool, 4, DataConfig())
    assert notes == ("groups were kept in one fold",)
    for name in set(groups):
        assert len({int(k) for k, group in zip(fold, groups, strict=True) if group == name}) == 1
    for part in folds_of(pool, fold, DataConfig()):
        train, val = (set(part.dataset.splits[split].groups or ()) for split in ("train", "val"))
        assert not train & val


def test_exact_copies_stay_in_one_fold() -> None:
    dataset = made()
    train = dataset.splits["train"]
    assert isinstance(train, ArraySource)
    images = train.images.copy()
    images[1:80:4] = images[0:79:4]
    splits = dict(dataset.splits) | {"train": replace(train, images=images)}
    pool = development(replace(dataset, splits=splits))
    fold, _ = draw_folds(pool, 3, DataConfig())
    assert (fold[1:80:4] == fold[0:79:4]).all()


def test_copies_of_a_part_are_numbered_by_their_place_there() -> None:
    copies = Copies(exact=np.array([0, 1, 1, 3, 0]), near=None, keys=["a", "c", "b", "d", "e"])
    part = restricted(copies, np.array([1, 2, 4]))
    assert part.exact.tolist() == [1, 1, 2]  # of the two copies the one of the lower key stands for both
    assert list(part.keys or ()) == ["c", "b", "e"]


def test_the_seed_draws_other_folds() -> None:
    pool = development(made())
    first, again, other = (draw_folds(pool, 3, DataConfig(split_seed=seed))[0] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_too_many_folds_and_too_few_are_refused() -> None:
    pool = development(made([f"group {i % 3}" for i in range(120)]))
    with pytest.raises(ConfigError, match="out of range"):
        draw_folds(pool, 1, DataConfig())
    with pytest.raises(DataError, match="too few samples"):
        draw_folds(pool, 5, DataConfig())


def test_sources_of_two_kinds_are_not_joined() -> None:
    source = made().splits["train"]
    with pytest.raises(DataError, match="different layouts cannot be joined"):
        joined([source, made([str(i) for i in range(120)]).splits["train"]])
