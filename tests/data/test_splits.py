"""Drawing splits and taking subsets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsin.config import DataConfig
from opsin.data.samples import Source, numbered_ids
from opsin.data.sources import ArraySource
from opsin.data.splits import divide, draw, first_samples, hold_out, parse_subset
from opsin.errors import ConfigError, DataError


def source(labels: list[int], groups: list[str] | None = None) -> ArraySource:
    n = len(labels)
    images = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
    return ArraySource(images=images, labels=np.array(labels, np.int64), ids=numbered_ids("sample", n), groups=groups)


def shares(split: Source) -> list[int]:
    assert split.labels is not None
    return np.bincount(split.labels).tolist()


def test_the_worked_case_of_the_course_gives_7500_and_2500() -> None:
    train = source([i % 10 for i in range(12_000)])
    first = first_samples({"train": train}, parse_subset("train=10000"))["train"]
    parts = hold_out(first, DataConfig(val_fraction=0.25))
    assert {name: len(part) for name, part in parts.items()} == {"train": 7500, "val": 2500}
    assert shares(parts["val"]) == [250] * 10


def test_an_undivided_set_is_drawn_80_10_10_with_class_shares_kept() -> None:
    parts = divide(source([0] * 60 + [1] * 40), DataConfig())
    assert {name: shares(part) for name, part in parts.items()} == {"train": [48, 32], "val": [6, 4], "test": [6, 4]}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=12, max_size=120), st.floats(0.1, 0.5), st.integers(0, 5))
def test_drawn_parts_cover_all_samples_once_and_keep_shares(labels: list[int], fraction: float, seed: int) -> None:
    parts = draw(source(labels), [fraction], DataConfig(split_seed=seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all((np.diff(part) > 0).all() for part in parts)
    counts = np.bincount(labels, minlength=5)
    drawn = np.bincount(np.array(labels)[parts[1]], minlength=5)
    assert (np.abs(drawn - counts * fraction) <= 1).all()
    assert ((counts - drawn >= 1) | (counts == 0)).all()


def test_the_seed_decides_the_draw_and_nothing_else_does() -> None:
    pool = source([i % 2 for i in range(100)])
    np.random.seed(1)
    one = divide(pool, DataConfig(split_seed=3))
    np.random.seed(2)
    same, other = divide(pool, DataConfig(split_seed=3)), divide(pool, DataConfig(split_seed=4))
    assert list(one["val"].ids) == list(same["val"].ids)
    assert list(one["val"].ids) != list(other["val"].ids)


def test_without_stratify_the_draw_ignores_classes_and_has_the_right_size() -> None:
    parts = hold_out(source([0] * 50 + [1] * 50), DataConfig(stratify=False, val_fraction=0.2))
    assert len(parts["val"]) == 20


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 14), min_size=60, max_size=120), st.integers(0, 3))
def test_no_group_lies_in_two_splits(numbers: list[int], seed: int) -> None:
    groups = [f"g{n}" for n in [*range(15), *numbers]]
    pool = source([i % 2 for i in range(len(groups))], groups)
    parts = divide(pool, DataConfig(split_seed=seed))
    sets = [set(part.groups or ()) for part in parts.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 15
    assert len(parts["train"]) > len(groups) / 2


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(DataError, match="too few samples"):
        divide(source([0, 1] * 10, ["a"] * 20), DataConfig())


@pytest.mark.parametrize("text", ["train", "train=0", "train=-1", "trian=5", "train=5,train=6", "train=1.5", "=5"])
def test_a_subset_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="subset"):
        parse_subset(text)


def test_a_subset_larger_than_the_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="more of `train`") as caught:
        first_samples({"train": source([0, 1])}, {"train": 3})
    assert caught.value.expected == "at most 2"
