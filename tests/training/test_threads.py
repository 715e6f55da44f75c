"""The number of threads: all on a quiet machine, fewer where that is clearly faster, kept when a run is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from opsin.config import TrainConfig
from opsin.errors import ConfigError
from opsin.runs import Run
from opsin.training.engine import threads
from opsin.training.engine.machine import check_threads, most_threads
from opsin.training.engine.threads import OtherWork, ThreadChoice, ThreadWatch, choose, is_open

CPU = torch.device("cpu")
Quick = Callable[..., Run]


@pytest.fixture(autouse=True)
def kept_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class FakeClock:
    """Time that passes only while a step runs: seconds by number of threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float]) -> None:
        self.now, self.seconds, self.made = 0.0, seconds, 0
        monkeypatch.setattr(threads.time, "monotonic", lambda: self.now)

    def make_step(self) -> Callable[[], None]:
        self.made += 1
        return self.step

    def step(self) -> None:
        self.now += self.seconds[torch.get_num_threads()]


def test_a_quiet_machine_takes_all_cores_and_times_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch, {})
    assert choose(2, clock.make_step, 0.1) == ThreadChoice(threads=2, busy_cores=0.1)
    assert (clock.made, torch.get_num_threads()) == (0, 2)


@pytest.mark.parametrize(
    ("seconds", "expected"), [({2: 1.0, 1: 0.5}, 1), ({2: 1.0, 1: 0.85}, 2), ({2: 1.0, 1: 2.0}, 2)]
)
@pytest.mark.parametrize("busy_cores", [1.0, None])
def test_beside_other_work_fewer_threads_are_taken_if_clearly_faster(
    seconds: dict[int, float], expected: int, busy_cores: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = choose(2, FakeClock(monkeypatch, seconds).make_step, busy_cores)
    assert (chosen.threads, torch.get_num_threads()) == (expected, expected)
    assert [timing["threads"] for timing in chosen.timings] == [2, 1]


def test_on_many_cores_all_but_one_and_half_are_timed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch, {8: 2.0, 7: 1.1, 4: 2.0, 1: 8.0})
    assert choose(8, clock.make_step, 1.0).threads == 7


def test_a_number_given_by_hand_is_not_ours_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.SET_BY_HAND:
        monkeypatch.delenv(name, raising=False)
    assert is_open(TrainConfig(), CPU, 2)
    assert not is_open(TrainConfig(threads=2), CPU, 2)
    assert not is_open(TrainConfig(), CPU, 1)
    assert not is_open(TrainConfig(), torch.device("cuda"), 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert not is_open(TrainConfig(), CPU, 2)


class Others(OtherWork):
    """Others whose work the test sets."""

    def __init__(self) -> None:
        self.busy: float | None = 0.0

    def cores(self) -> float | None:
        return self.busy


def watch_of(clock: FakeClock, changes: list[int], others: Others) -> ThreadWatch:
    return ThreadWatch(
        most=2,
        chosen=ThreadChoice(threads=2),
        make_step=clock.make_step,
        changed=lambda choice: changes.append(choice.threads),
        other_work=others,
    )


def run_for(watch: ThreadWatch, clock: FakeClock, seconds: float) -> None:
    end = clock.now + seconds
    while clock.now < end:
        clock.step()
        watch.stepped()


def test_a_run_that_becomes_slow_beside_other_work_chooses_again_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, changes, others = FakeClock(monkeypatch, {2: 1.0, 1: 1.9}), [], Others()
    torch.set_num_threads(2)
    watch = watch_of(clock, changes, others)
    run_for(watch, clock, 100)
    assert (changes, clock.made) == ([], 0)
    others.busy, clock.seconds = 1.0, {2: 4.0, 1: 2.0}
    run_for(watch, clock, 100)
    assert (changes, clock.made) == ([1], 1)
    others.busy, clock.seconds = 0.0, {2: 1.0, 1: 1.9}
    run_for(watch, clock, 100)
    assert (changes, clock.made) == ([1, 2], 1)


def test_a_run_that_becomes_slow_on_a_quiet_machine_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, changes, others = FakeClock(monkeypatch, {2: 1.0}), [], Others()
    torch.set_num_threads(2)
    watch = watch_of(clock, changes, others)
    run_for(watch, clock, 50)
    clock.seconds = {2: 5.0}  # larger pictures from here on
    run_for(watch, clock, 200)
    assert (changes, clock.made) == ([], 0)


def test_scores_between_epochs_count_as_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, others = FakeClock(monkeypatch, {2: 1.0}), Others()
    torch.set_num_threads(2)
    watch = watch_of(clock, [], others)
    for _ in range(5):
        run_for(watch, clock, 10)
        clock.now += 500
        watch.begin()
    assert watch.fastest == 1.0


@pytest.mark.parametrize("threads_asked", [5000, 100_000])
def test_far_more_threads_than_cores_are_refused(threads_asked: int, quick_run: Quick, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="threads"):
        quick_run("many", threads=threads_asked)
    with pytest.raises(ConfigError, match="threads") as caught:
        check_threads(most_threads() + 1)
    assert str(most_threads()) in str(caught.value.expected)
    assert not (tmp_path / "many").exists()


def test_epochs_have_a_bound() -> None:
    assert TrainConfig(epochs=1_000_000).epochs == 1_000_000
    with pytest.raises(ConfigError, match="epochs"):
        TrainConfig(epochs=1_000_001)


def events_of(run: Run) -> list[dict[str, Any]]:
    return [event for event in run.log if event["event"] == "threads"]


def test_a_resumed_run_keeps_its_threads_and_another_number_is_said(
    quick_run: Quick, capsys: pytest.CaptureFixture[str]
) -> None:
    run = quick_run("kept", threads=2)
    assert run.environment.threads == 2
    torch.set_num_threads(1)
    assert events_of(quick_run("kept", threads=0, resume=True, epochs=4)) == []
    assert run.environment.threads == 2
    other = quick_run("kept", threads=1, resume=True, epochs=5, quiet=False)
    assert [(event["threads"], event["before"]) for event in events_of(other)] == [(1, 2)]
    assert "warning: from step 16 on with 1 thread instead of 2" in capsys.readouterr().err
    assert torch.get_num_threads() == 1
    assert events_of(quick_run("kept", threads=0, resume=True, epochs=6)) == events_of(other)


def test_a_run_chooses_beside_other_work_and_says_so(
    quick_run: Quick, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in threads.SET_BY_HAND:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(2)
    monkeypatch.setattr(OtherWork, "cores", lambda self: 1.0)
    monkeypatch.setattr(threads, "_steps_per_second", lambda step, count: 10.0 / count)
    run = quick_run("busy", threads=0, quiet=False)
    assert (run.environment.threads, run.environment.busy_cores) == (1, 1.0)
    assert "other work keeps 1.0 cores busy: 1 thread instead of 2 (5 with 2, 10 with 1 steps/s)" in (
        capsys.readouterr().err
    )
    assert torch.get_num_threads() == 2
