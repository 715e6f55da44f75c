"""Training from shards: the bits of an unbroken run after a resumption inside a shard, and one process as several."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import group_jobs
import numpy as np
import pytest
from group_workers import Workers
from test_group_training import ROUNDING, difference

from opsin.data.load import load
from opsin.data.samples import Dataset
from opsin.data.shards.source import ShardSource
from opsin.data.shards.writing import write_shards
from opsin.runs import Run

SETTINGS = {"subset": None, "shuffle_window": 50}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """201 digits for training in nine shards."""
    whole = load("digits")
    splits = {
        name: source.take(np.arange(count))
        for (name, source), count in zip(whole.splits.items(), (201, 97, 20), strict=True)
    }
    out = tmp_path_factory.mktemp("shards") / "digits"
    write_shards(Dataset(**{**vars(whole), "splits": splits}), out, shard_mb=0.05)
    return str(out)


def test_a_run_from_shards_that_is_broken_off_and_resumed_has_the_bits_of_an_unbroken_one(
    digits: str, workers: Workers, tmp_path: Path
) -> None:
    source = load(digits).splits["train"]
    assert isinstance(source, ShardSource)
    assert len(set(source.shard.tolist())) == 9
    workers.run(1, group_jobs.trained, digits, tmp_path, "unbroken", SETTINGS)
    (answer,) = workers.run(1, group_jobs.terminated, digits, tmp_path, "broken", SETTINGS, 6)
    assert answer.startswith("InterruptedRunError: stopped at step 6 of 8")
    workers.run(1, group_jobs.trained, digits, tmp_path, "broken", SETTINGS | {"resume": True})
    assert difference(tmp_path / "unbroken", tmp_path / "broken") == 0


def test_two_processes_train_from_shards_as_one_does(digits: str, workers: Workers, tmp_path: Path) -> None:
    one = workers.run(1, group_jobs.trained, digits, tmp_path, "one", SETTINGS)[0]
    two = workers.run(2, group_jobs.trained, digits, tmp_path, "two", SETTINGS)[0]
    assert difference(one, two) < ROUNDING
    scores = [[epoch.val["accuracy"] for epoch in Run(run).log.epochs] for run in (one, two)]
    assert scores[0] == scores[1]


def test_another_window_is_another_order(digits: str, workers: Workers, tmp_path: Path) -> None:
    one = workers.run(1, group_jobs.trained, digits, tmp_path, "one", SETTINGS)[0]
    other = workers.run(1, group_jobs.trained, digits, tmp_path, "other", SETTINGS | {"shuffle_window": 0})[0]
    assert difference(one, other) > 0


def test_every_sample_in_shards_is_seen_once_an_epoch_over_all_processes(digits: str, workers: Workers) -> None:
    whole = workers.run(1, group_jobs.indices_in_shards, digits, 32, 3)[0]
    for size in (2, 3):
        shares = workers.run(size, group_jobs.indices_in_shards, digits, 32, 3)
        assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    assert sorted(chain(*whole)) == list(range(201))
