"""Several processes train as one does: same samples, same weights to rounding, one run folder."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import group_jobs
import numpy as np
import pytest
from group_workers import Workers
from safetensors.numpy import load_file

from opsin.runs import Run

ROUNDING = 1e-5
"""By how much weights may differ that were added up in another order, in a few steps."""


def weights(run: Path | str) -> dict[str, np.ndarray]:
    """What the artefact of a run holds."""
    return load_file(Path(run) / "model" / "weights.safetensors")


def difference(one: Path | str, other: Path | str) -> float:
    """Largest difference between weights of two runs."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max(float(np.abs(first[key] - second[key]).max()) for key in first)


@pytest.mark.parametrize("size", [2, 4])
def test_weights_of_several_processes_are_those_of_one_to_rounding(
    size: int, lone: Path, workers: Workers, tmp_path: Path
) -> None:
    paths = workers.run(size, group_jobs.trained, "digits", tmp_path, "several", {})
    assert paths == [str(tmp_path / "several")] * size
    assert difference(lone, paths[0]) < ROUNDING
    run, one = Run(paths[0]), Run(lone)
    assert [event.event for event in run.log] == [event.event for event in one.log]
    losses = [[epoch.train["loss"] for epoch in found.log.epochs] for found in (run, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("source", ["digit_scenes", "digit_masks"])
def test_other_tasks_train_in_a_group_too(source: str, workers: Workers, tmp_path: Path) -> None:
    settings = {"model": None, "filters": None, "dense": None, "batch_norm": None, "epochs": 1, "dropout": 0.0}
    settings |= {"subset": "train=41,val=21", "batch_size": 16, "ema": 0.9, "lr": 0.01, "sync_batch_norm": True}
    one = workers.run(1, group_jobs.trained, source, tmp_path, "one", settings)[0]
    two = workers.run(2, group_jobs.trained, source, tmp_path, "two", settings)[0]
    first, second = (Run(path).log.epochs[-1] for path in (one, two))
    assert second.val == pytest.approx(first.val, rel=1e-3)
    assert second.train == pytest.approx(first.train, rel=1e-3)


@pytest.mark.parametrize("count", [7, 64, 101, 130])
def test_every_sample_is_seen_once_an_epoch_whatever_the_number_of_processes(count: int, workers: Workers) -> None:
    whole = workers.run(1, group_jobs.indices, count, 32, 3)[0]
    for size in (2, 3):
        shares = workers.run(size, group_jobs.indices, count, 32, 3)
        assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    assert sorted(chain(*whole)) == list(range(count))


@pytest.mark.parametrize("count", [1, 257, 1100])
def test_scores_of_the_same_weights_are_identical_on_any_number_of_processes(count: int, workers: Workers) -> None:
    expected = workers.run(1, group_jobs.val_scores, count)[0]
    for size in (2, 3, 4):
        assert workers.run(size, group_jobs.val_scores, count) == [expected] * size


def test_a_group_that_is_ended_by_a_signal_and_resumed_has_the_bits_of_an_unbroken_one(
    workers: Workers, tmp_path: Path
) -> None:
    workers.run(2, group_jobs.trained, "digits", tmp_path, "unbroken", {})
    answers = workers.run(2, group_jobs.terminated, "digits", tmp_path, "broken", {}, 5)
    assert all(answer.startswith("InterruptedRunError: stopped at step 5 of 8") for answer in answers)
    workers.run(2, group_jobs.trained, "digits", tmp_path, "broken", {"resume": True})
    assert difference(tmp_path / "unbroken", tmp_path / "broken") == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_process_ends_all_with_one_checkpoint(rank: int, workers: Workers, tmp_path: Path) -> None:
    settings = {"epochs": 10_000, "subset": "train=65,val=10"}
    answers = workers.run(2, group_jobs.terminated_by_batch, "digits", tmp_path, "ended", settings, rank, 30)
    assert len(set(answers)) == 1, answers
    run = Run(tmp_path / "ended")
    stopped = next(event for event in run.log if event.event == "interrupt")
    assert answers[0].startswith(
        f"InterruptedRunError: stopped at step {stopped['step']} of 10000"
    )  # steps of 65: none for one image alone
    assert (run.path / "checkpoints" / "LAST").read_text() == f"step-{stopped['step']:06d}"
    assert stopped["step"] >= 28  # batches are prepared ahead of their steps


def test_a_run_is_resumed_on_another_number_of_processes(lone: Path, workers: Workers, tmp_path: Path) -> None:
    workers.run(2, group_jobs.terminated, "digits", tmp_path, "broken", {}, 5)
    workers.run(1, group_jobs.trained, "digits", tmp_path, "broken", {"resume": True})
    assert difference(lone, tmp_path / "broken") < ROUNDING


def test_followers_end_as_the_lead_does_when_it_refuses(workers: Workers, tmp_path: Path) -> None:
    answers = workers.run(2, group_jobs.trained, "digits", tmp_path, "refused", {"model": "plian"})
    assert answers[0].startswith("ConfigError: ")
    assert answers[1].startswith("FollowerError: the leading process ended")
    assert not (tmp_path / "refused").exists()


def test_batch_norms_over_all_processes_give_the_weights_of_one(workers: Workers, tmp_path: Path) -> None:
    settings = {"batch_norm": True, "sync_batch_norm": True, "epochs": 1}
    one = workers.run(1, group_jobs.trained, "digits", tmp_path, "one", settings)[0]
    two = workers.run(2, group_jobs.trained, "digits", tmp_path, "two", settings)[0]
    assert difference(one, two) < 10 * ROUNDING
    apart = workers.run(2, group_jobs.trained, "digits", tmp_path, "apart", settings | {"sync_batch_norm": False})[0]
    assert difference(one, apart) > 100 * ROUNDING
