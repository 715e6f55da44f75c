from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from opsin.config import TrainConfig
from opsin.models.wrappers.forward import Precision
from opsin.runs import Timing
from opsin.runs.codec import from_json
from opsin.training.engine import precision
from opsin.training.engine.precision import choose

CPU = torch.device("cpu")


class FakeClock:
    """Time that passes only while a candidate's step runs: seconds by candidate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[tuple[str, bool], float]) -> None:
        self.now, self.seconds, self.steps = 0.0, seconds, 0
        monkeypatch.setattr(precision.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(precision, "_fast_half", lambda device: ["bfloat16"])

    def timer(self, candidate: Precision) -> Callable[[], None]:
        def step() -> None:
            self.steps += 1
            self.now += self.seconds[candidate.dtype, candidate.channels_last]

        return step


def chosen(clock: FakeClock, tmp_path: Path, config: TrainConfig | None = None) -> Precision:
    return choose(config or TrainConfig(), CPU, timer=clock.timer, batch=10, key="net", cache=tmp_path).precision


def test_a_clearly_faster_candidate_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch, {("float32", True): 1.0, ("float32", False): 1.5, ("bfloat16", True): 0.3})
    assert chosen(clock, tmp_path) == Precision(dtype="bfloat16", channels_last=True)


def test_a_tie_goes_to_float32_channels_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch, {("float32", True): 1.0, ("float32", False): 0.95, ("bfloat16", True): 0.9})
    assert chosen(clock, tmp_path) == Precision(dtype="float32", channels_last=True)


def test_the_choice_is_remembered_so_that_a_second_run_computes_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FakeClock(monkeypatch, {("float32", True): 1.0, ("float32", False): 0.5, ("bfloat16", True): 9.0})
    before = chosen(first, tmp_path)
    second = FakeClock(monkeypatch, {("float32", True): 0.1, ("float32", False): 0.5, ("bfloat16", True): 9.0})
    assert chosen(second, tmp_path) == before
    assert second.steps == 0


def test_a_candidate_that_runs_out_of_memory_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock(monkeypatch, {("float32", True): 1.0, ("float32", False): 1.0, ("bfloat16", True): 0.9})

    def timer(candidate: Precision) -> Callable[[], None]:
        if candidate.dtype == "float32":
            raise torch.OutOfMemoryError("out of memory")
        return clock.timer(candidate)

    choice = choose(TrainConfig(), CPU, timer=timer, batch=10, key="net", cache=tmp_path)
    assert choice.precision == Precision(dtype="bfloat16", channels_last=True)
    assert [timing["images_per_second"] > 0 for timing in choice.timings] == [False, False, True]
    recorded = [from_json(Timing, dict(timing), "timings") for timing in choice.timings]
    assert [timing.note for timing in recorded] == ["out of memory", "out of memory", None]


def test_any_other_fault_of_a_candidate_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeClock(monkeypatch, {})

    def timer(candidate: Precision) -> Callable[[], None]:
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        choose(TrainConfig(), CPU, timer=timer, batch=10, key="net", cache=tmp_path)


def test_what_the_user_asked_for_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch, {})
    config = TrainConfig(precision="float32", channels_last=False)
    assert chosen(clock, tmp_path, config) == Precision(dtype="float32", channels_last=False)


def test_half_precision_without_hardware_for_it_is_not_even_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.float32: 0.001, torch.bfloat16: 0.1}
    monkeypatch.setattr(precision, "_product_seconds", lambda dtype, device: seconds[dtype])
    assert precision._fast_half(CPU) == []
