"""What a resumed run owes an unbroken one, beyond equal steps: its log, its early stop, its budget."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import opsin
from opsin.errors import ConfigError, DivergedError, InterruptedRunError, RunError
from opsin.explanation.any_size import convert_run
from opsin.io.tensors import read_tensors
from opsin.progress import Reporter
from opsin.runs import Run
from opsin.tasks.classify.task import Classify
from opsin.training import session
from opsin.training.engine.checkpoints import Checkpoint, load, save
from opsin.training.engine.clock import Clock
from opsin.training.engine.decisions import Decisions
from opsin.training.engine.loop import Trainer
from opsin.types import Score

Quick = Callable[..., Run]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code catches it."""


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.model_folder / "weights.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def die(*args: object, **kwargs: object) -> None:
    raise Killed


def test_an_epoch_that_is_logged_before_its_end_is_checkpointed_is_logged_once(
    quick_run: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the last step of an epoch leaves a checkpoint, the epoch is logged, and then the process dies
    original = Trainer._step

    def step(self: Trainer, *args: object, **kwargs: object) -> None:
        if self.state.step == 5:
            raise Killed
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        if self.state.step == 4:
            self.save_checkpoint()

    assert quick_run("steps").log.epochs[0].step == 4
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        patch.setattr(Decisions, "saves_epoch", lambda self: False)
        with pytest.raises(Killed):
            quick_run("killed")
    assert [epoch.epoch for epoch in quick_run("killed", resume=True).log.epochs] == [1, 2, 3]


def test_a_run_that_had_stopped_early_when_it_was_killed_trains_no_further(
    quick_run: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"optimizer": "sgd", "lr": 1e-9, "schedule": "constant", "patience": 2, "epochs": 9}
    settings["restore_best"] = False
    unbroken = quick_run("unbroken", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(session, "finish", die)
        with pytest.raises(Killed):
            quick_run("killed", **settings)
    resumed = quick_run("killed", resume=True, **settings)
    assert len(resumed.log.epochs) == len(unbroken.log.epochs)
    assert resumed.summary.stopped == "early"
    assert same(weights(unbroken), weights(resumed))


def test_more_patience_takes_a_run_on_that_had_stopped_early(quick_run: Quick) -> None:
    settings = {"optimizer": "sgd", "lr": 1e-9, "schedule": "constant", "epochs": 9}
    stopped = len(quick_run("patient", patience=1, **settings).log.epochs)
    assert len(quick_run("patient", patience=2, resume=True, **settings).log.epochs) > stopped


def test_a_budget_that_ended_inside_an_epoch_can_be_raised(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        # a clock by which each step takes a second: the budget ends after the sixth step, inside the second epoch
        patch.setattr(Clock, "seconds", lambda self: float(self.state.step))
        patch.setattr(Clock, "set_budget", lambda self: setattr(self.state, "budget_seconds", limit))
        limit = 6.0
        first = quick_run("budget", minutes=6 / 60)
        assert [epoch.step for epoch in first.log.epochs] == [4, 6]
        assert first.summary.stopped == "minutes"
        limit = 60.0
        longer = quick_run("budget", minutes=1.0, resume=True)
    assert [(epoch.epoch, epoch.step) for epoch in longer.log.epochs] == [(1, 4), (2, 6), (3, 10)]


def test_an_undefined_score_is_beaten_by_any_number(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([math.nan, 0.25, 0.5])

    def scores(self: Classify, *args: object, **kwargs: object) -> dict[str, Score]:
        return {"accuracy": Score(next(values, 0.5)), "loss": Score(1.0)}

    monkeypatch.setattr(Classify, "scores", scores)
    run = quick_run("undefined", preflight=False)
    assert [epoch.best for epoch in run.log.epochs] == [False, True, True]
    assert run.summary.best_epoch == 3
    assert run.log.epochs[0].val["accuracy"] != run.log.epochs[0].val["accuracy"]  # NaN
    for line in (run.path / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=die)


def test_weights_that_are_no_numbers_are_never_written(
    quick_run: Quick, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = Trainer._step

    def step(self: Trainer, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        if self.state.step == 4:  # the last of the epoch: no later loss would tell
            with torch.no_grad():
                next(self.network.parameters()).fill_(math.nan)

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(DivergedError, match="weight"):
        quick_run("broken", checkpoint_minutes=1e-9)
    found = load(tmp_path / "broken" / "checkpoints", report=Reporter(quiet=True))
    assert found is None or all(bool(value.isfinite().all()) for value in found.part("network").values())


def test_the_log_says_that_a_run_diverged(quick_run: Quick, tmp_path: Path) -> None:
    with pytest.raises(DivergedError):
        quick_run("nan", optimizer="sgd", lr=1e30, warmup=0.0, schedule="constant")
    last = Run.open("nan", out=tmp_path).log[-1]
    assert last["event"] == "diverged"
    assert "not a finite number" in last["message"]


def test_the_command_that_goes_on_names_the_folder_of_runs(
    quick_run: Quick, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = Trainer._step

    def step(self: Trainer, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(InterruptedRunError) as caught:
        quick_run("stopped")
    assert f"opsin train digits --name stopped --runs {tmp_path} --resume" in str(caught.value.do)


def test_the_newest_checkpoint_is_told_by_its_number_beyond_a_million_steps(tmp_path: Path) -> None:
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        save(tmp_path / "checkpoints", Checkpoint({"network.w": torch.zeros(1)}, {"step": step}))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    assert kept == ["step-1000000", "step-1000001"]


def test_a_recipe_with_other_settings_is_refused_when_a_run_is_resumed(quick_run: Quick, tmp_path: Path) -> None:
    quick_run("fixed")
    recipe = tmp_path / "other.toml"
    recipe.write_text("lr = 0.5\nepochs = 99\n")
    with pytest.raises(RunError, match="keeps its settings") as caught:
        quick_run("fixed", resume=True, recipe=str(recipe))
    assert caught.value.got == "lr"


def test_training_from_python_leaves_a_report_unless_told_otherwise(
    quick_settings: dict[str, object], tmp_path: Path
) -> None:
    run = opsin.train("digits", name="told", out=tmp_path, **quick_settings)  # type: ignore[arg-type]
    assert (run.path / "report.html").is_file()
    bare = opsin.train("digits", name="bare", out=tmp_path, report=False, **quick_settings)  # type: ignore[arg-type]
    assert not (bare.path / "report.html").exists()


def test_a_run_that_goes_on_scores_val_over_its_views_again(quick_run: Quick) -> None:
    run = quick_run("views", epochs=2)
    opsin.evaluate(run, tta=("shift",), copies=True)
    assert quick_run("views", epochs=2, resume=True).scores["val"].without_copies is not None
    again = quick_run("views", epochs=3, resume=True)
    assert again.scores["val"].tta.views == ("shift",)
    assert again.scores["val"].without_copies is None  # other weights: those scores are of the network as it was


def test_batches_of_one_image_are_refused_before_training_where_a_norm_is_over_the_batch(quick_run: Quick) -> None:
    with pytest.raises(ConfigError, match=r"(?s)one image has no variance.*--batch-size 2"):
        quick_run("one", model="dense", filters=None, dense=(8,), batch_norm=True, batch_size=1)


def test_a_converted_run_is_evaluated_and_keeps_the_count_of_openings(quick_run: Quick, tmp_path: Path) -> None:
    run = quick_run("dense", model="dense", filters=None, dense=(8,), open_test=True)
    converted = convert_run(run, out=tmp_path).run
    assert converted.log.test_openings == 1
    found = opsin.evaluate(converted)
    assert found.scores["accuracy"].value == run.scores["val"]["accuracy"].value
    assert opsin.evaluate(converted, split="test").test_openings == 2


def test_minutes_of_a_resumed_run_are_minutes_more(quick_run: Quick) -> None:
    steps = quick_run("more", epochs=10_000, minutes=0.01).summary.step
    assert quick_run("more", epochs=10_000, minutes=0.01, resume=True).summary.step > steps


def test_a_resumed_run_with_nothing_left_to_train_says_so(quick_run: Quick, capsys: pytest.CaptureFixture[str]) -> None:
    quick_run("done", epochs=1)
    again = quick_run("done", epochs=1, minutes=0.1, resume=True, quiet=False)
    assert "nothing is left to train" in capsys.readouterr().err
    assert any(event["event"] == "nothing_left" for event in again.log)
