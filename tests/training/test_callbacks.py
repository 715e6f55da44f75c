"""What callbacks see of a training, what they may do, and that they change no bit of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from opsin.errors import ConfigError, DivergedError
from opsin.io.tensors import read_tensors
from opsin.progress import Reporter
from opsin.runs import Run
from opsin.training import session
from opsin.training.engine import checkpoints, losses
from opsin.training.engine.hooks import Callback, EpochContext, EventContext, StepContext
from opsin.training.engine.loop import Trainer
from opsin.training.engine.losses import LossReader, StepLosses

Quick = Callable[..., Run]


class Notes(Callback):
    """Writes down all that it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, float]] = []
        self.epochs: list[EpochContext] = []
        self.events: list[str] = []

    def on_step(self, step: StepContext) -> None:
        self.steps.append((step.step, step.epoch, float(step.losses["loss"]) * step.count))

    def on_epoch(self, epoch: EpochContext) -> None:
        self.epochs.append(epoch)

    def on_event(self, event: EventContext) -> None:
        self.events.append(event.name)


class StopAfter(Callback):
    """Asks the run to stop after a step; draws random numbers too, which must change nothing."""

    def __init__(self, step: int) -> None:
        self.last = step

    def on_step(self, step: StepContext) -> None:
        torch.rand(3)
        if step.step == self.last:
            step.stop("enough")


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.model_folder / "weights.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_callback_is_told_of_each_step_and_epoch_and_changes_no_bit(quick_run: Quick) -> None:
    notes = Notes()
    seen, alone = quick_run("seen", callbacks=[notes, StopAfter(999)]), quick_run("alone")
    assert same(weights(seen), weights(alone))
    assert [(step, epoch) for step, epoch, _ in notes.steps] == [(i + 1, i // 4) for i in range(12)]
    assert [epoch.record for epoch in notes.epochs] == [
        {key: value for key, value in event.items() if key not in ("event", "time")}
        for event in seen.log
        if event.event == "epoch"
    ]
    first = sum(loss for _, epoch, loss in notes.steps if epoch == 0) / 400
    assert notes.epochs[0].train["loss"] == pytest.approx(first)


def test_a_callback_may_end_the_run_inside_an_epoch_which_is_scored(quick_run: Quick) -> None:
    run = quick_run("stopped", callbacks=[StopAfter(6)])
    assert run.summary.stopped == "enough"
    assert [epoch.step for epoch in run.epochs] == [4, 6]
    assert run.scores.keys() == {"val"}


def test_a_callback_is_told_of_an_early_stop(quick_run: Quick) -> None:
    notes = Notes()
    quick_run("early", optimizer="sgd", lr=1e-9, schedule="constant", patience=1, epochs=9, callbacks=[notes])
    assert notes.events == ["early_stop"]


def test_an_error_of_a_callback_ends_the_run_with_that_error(quick_run: Quick) -> None:
    class Broken(Callback):
        def on_epoch(self, epoch: EpochContext) -> None:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        quick_run("broken", callbacks=[Broken()])


@pytest.mark.parametrize(("wrong", "do"), [(Notes, "give an instance"), (print, "inherit")])
def test_what_is_no_callback_is_refused_before_there_is_a_run(
    wrong: Any, do: str, quick_run: Quick, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="callback is invalid") as caught:
        quick_run("refused", callbacks=[Notes(), wrong])
    assert caught.value.where == "callbacks[1]"
    assert do in str(caught.value.do)
    assert not (tmp_path / "refused").exists()


def test_losses_that_are_read_together_give_the_same_run(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    each = quick_run("each", clip=0.5)
    monkeypatch.setattr(losses, "steps_between_reads", lambda device: 3)
    together = quick_run("together", clip=0.5)
    assert same(weights(each), weights(together))
    assert [epoch.train for epoch in each.epochs] == [epoch.train for epoch in together.epochs]


def test_losses_that_are_read_late_name_the_same_step_and_keep_no_broken_weights(
    quick_run: Quick, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wild = {"optimizer": "sgd", "lr": 1e30, "warmup": 0.0, "schedule": "constant", "checkpoint_minutes": 1e-9}
    with pytest.raises(DivergedError) as at_once:
        quick_run("at-once", **wild)
    monkeypatch.setattr(losses, "steps_between_reads", lambda device: 1000)
    with pytest.raises(DivergedError) as late:
        quick_run("late", **wild)
    assert late.value.where == at_once.value.where
    found = checkpoints.load(tmp_path / "late" / "checkpoints", report=Reporter(quiet=True))
    assert found is None or all(bool(value.isfinite().all()) for value in found.part("network").values())


def measured(step: int, loss: float, norm: float = 1.0) -> StepLosses:
    return StepLosses(
        step=step, means={"loss": torch.tensor(loss)}, norm=torch.tensor(norm), samples=torch.tensor([step, 7])
    )


def test_of_losses_read_together_the_first_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "steps_between_reads", lambda device: 9)
    reader = LossReader(torch.device("cpu"))
    for step, loss in enumerate([1.0, 2.0, 3.0, math.inf, math.nan]):
        reader.add(measured(step, loss, norm=math.nan if step == 2 else 1.0))
    with pytest.raises(DivergedError, match="a gradient") as caught:
        reader.drain()
    assert "step 2, training samples 2, 7" in str(caught.value.where)


def test_scalars_that_are_read_at_once_are_those_that_are_read_each() -> None:
    rows = [[torch.tensor(0.1), torch.tensor(7, dtype=torch.int64)], [], [torch.tensor(0.3, dtype=torch.float64)]]
    assert losses.read_at_once(rows) == [[value.item() for value in row] for row in rows]
    assert losses.read_at_once([]) == []


def test_a_step_that_is_taken_again_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "steps_between_reads", lambda device: 2)
    reader = LossReader(torch.device("cpu"))
    for step, loss in [(0, 1.0), (1, 2.0), (1, 3.0), (2, 4.0)]:
        reader.add(measured(step, loss))
    assert [read.means["loss"] for read in reader.drain()] == [1.0, 3.0, 4.0]


def test_training_gives_the_callers_generator_back(quick_run: Quick) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    quick_run("generator", preflight=False, epochs=1)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_that_are_augmented_ahead_change_no_bit(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    in_turn = quick_run("in-turn", shift=1, rotate=10)
    monkeypatch.setattr(session, "Trainer", partial(Trainer, augments_ahead=True))
    ahead = quick_run("ahead", shift=1, rotate=10)
    assert same(weights(in_turn), weights(ahead))
