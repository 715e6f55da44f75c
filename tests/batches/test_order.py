"""The order of an epoch of a set in shards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opsin.batches.order import shard_order

SHARDS = torch.arange(10, dtype=torch.int32).repeat_interleave(100)


def order(seed: int = 0, epoch: int = 0, window: int = 150) -> torch.Tensor:
    return shard_order(SHARDS, seed=seed, epoch=epoch, window=window)


@pytest.mark.parametrize("window", [0, 1, 150, 5000])
def test_each_sample_comes_once_an_epoch(window: int) -> None:
    assert sorted(order(window=window).tolist()) == list(range(len(SHARDS)))


def test_without_a_window_shards_come_whole_and_in_another_order_each_epoch() -> None:
    firsts = [order(epoch=epoch, window=0)[::100].tolist() for epoch in range(3)]
    assert len({tuple(first) for first in firsts}) == 3
    assert all(sorted(first) == list(range(0, 1000, 100)) for first in firsts)
    assert order(window=0)[:100].tolist() == list(range(firsts[0][0], firsts[0][0] + 100))


def test_no_sample_moves_further_than_the_window() -> None:
    before = {int(sample): place for place, sample in enumerate(order(window=0))}
    moved = [place - before[int(sample)] for place, sample in enumerate(order(window=150))]
    assert max(abs(step) for step in moved) <= 150
    assert np.mean(np.abs(moved)) > 20


def test_a_batch_is_made_of_the_shards_of_a_window() -> None:
    batches = order(window=150).split(50)
    assert max(len(SHARDS[batch].unique()) for batch in batches) <= 4


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert torch.equal(order(), order())
    assert not torch.equal(order(), order(epoch=1))
    assert not torch.equal(order(), order(seed=1))
