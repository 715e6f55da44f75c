"""Whole runs on digits: what they leave, and that an interruption changes nothing."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opsin import config as settings_of
from opsin.artifact import check_golden, load
from opsin.batches.batch import Batch
from opsin.errors import ConfigError, DivergedError, InterruptedRunError, RunError
from opsin.io.tensors import read_tensors
from opsin.progress import Reporter
from opsin.runs import Run, RunWriter
from opsin.tasks.common_defaults import DIVIDED_BY_NAME
from opsin.training import train
from opsin.training.engine import checkpoints, guards
from opsin.training.engine.loop import Trainer
from opsin.training.engine.step import Stepper
from opsin.training.engine.validation import Validation
from opsin.training.setup import defaults

Quick = Callable[..., Run]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.model_folder / "weights.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Ctrl-C during the given step."""
    original = Trainer._step

    def step(self: Trainer, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        if self.state.step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_step", step)


def test_a_run_leaves_every_file_of_its_folder(quick_run: Quick) -> None:
    run = quick_run()
    files = {path.name for path in run.path.iterdir()}
    assert files == {
        "config.json", "environment.json", "data.json", "log.jsonl", "present.json", "checkpoints", "model",
        "scores.json", "summary.json", "predictions.npz", "gallery.npz",
    }  # fmt: skip
    assert [event["event"] for event in run.log] == [
        "preflight",
        "forecast",
        "start",
        "epoch",
        "epoch",
        "epoch",
        "finish",
    ]
    assert run.scores.keys() == {"val"}


def test_the_test_split_stays_sealed_unless_it_is_opened(quick_run: Quick) -> None:
    sealed, opened = quick_run("sealed"), quick_run("opened", open_test=True)
    assert sealed.log.test_openings == 0
    assert not sealed.predictions("test")
    assert opened.log.test_openings == 1
    assert opened.scores["test"].opened == 1


def test_feeding_the_config_back_repeats_the_run_bit_for_bit(quick_run: Quick) -> None:
    first = quick_run("first")
    settings = {k: v for k, v in settings_of.flat(first.config).items() if k not in ("source", "root", "task")}
    assert same(weights(first), weights(quick_run("second", **settings)))


def test_another_seed_gives_other_weights_on_the_same_split(quick_run: Quick) -> None:
    a, b = quick_run("a", seed=0), quick_run("b", seed=1)
    assert a.data.fingerprint == b.data.fingerprint
    assert not same(weights(a), weights(b))


@pytest.mark.parametrize("stop_at", [1, 4, 6])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adamw", "ema": 0.9, "dropout": 0.3, "mixup": 0.4},
        {"policy": "rand_augment", "dropout": 0.3, "flip": 0.5, "flip_vertical": 0.5},
    ],
)
def test_a_run_that_was_interrupted_ends_with_the_same_bits(
    quick_run: Quick, monkeypatch: pytest.MonkeyPatch, stop_at: int, settings: dict[str, object]
) -> None:
    unbroken = quick_run("unbroken", **settings)
    with monkeypatch.context() as patch:
        interrupt_after(patch, stop_at)
        with pytest.raises(InterruptedRunError, match=f"stopped at step {stop_at}"):
            quick_run("broken", **settings)
    resumed = quick_run("broken", resume=True, **settings)
    assert same(weights(unbroken), weights(resumed))
    keys = ("epoch", "step", "lr", "train", "val", "best")
    assert [[getattr(e, k) for k in keys] for e in unbroken.log.epochs] == [
        [getattr(e, k) for k in keys] for e in resumed.log.epochs
    ]


def test_a_finished_run_goes_on_for_more_epochs(quick_run: Quick) -> None:
    quick_run("more", schedule="constant", epochs=2)
    longer = quick_run("more", schedule="constant", epochs=4, resume=True)
    assert [e.epoch for e in longer.log.epochs] == [1, 2, 3, 4]
    assert same(weights(longer), weights(quick_run("at-once", schedule="constant", epochs=4)))


def test_resuming_with_another_setting_is_refused_by_name(quick_run: Quick) -> None:
    quick_run("fixed")
    with pytest.raises(RunError, match="keeps its settings") as caught:
        quick_run("fixed", resume=True, lr=0.5)
    assert caught.value.got == "lr"


def test_a_name_that_is_taken_is_refused_and_nothing_is_overwritten(quick_run: Quick) -> None:
    run = quick_run("taken")
    before = weights(run)
    with pytest.raises(RunError, match="exists already"):
        quick_run("taken", epochs=1)
    assert same(before, weights(run))


def test_a_corrupt_newest_checkpoint_falls_back_to_the_one_before(quick_run: Quick, tmp_path: Path) -> None:
    run = quick_run("corrupt", checkpoint_minutes=1e-9)
    newest = RunWriter(run).checkpoints_folder / (RunWriter(run).checkpoints_folder / "LAST").read_text()
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"!")
    found = checkpoints.load(RunWriter(run).checkpoints_folder, report=Reporter(quiet=True))
    assert found is not None
    assert f"step-{found.state['step']:06d}" < newest.name


def test_nan_stops_the_run_and_names_the_step_and_the_samples(quick_run: Quick) -> None:
    with pytest.raises(DivergedError, match="not a finite number") as caught:
        quick_run("nan", optimizer="sgd", lr=1e30, warmup=0.0, schedule="constant")
    assert re.search(r"step \d+, training samples digits/\d{5}, digits/\d{5}", str(caught.value.where))


def test_out_of_memory_halves_the_batch_says_so_and_goes_on(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Stepper._backward

    def cramped(self: Stepper, batch: Batch, parts: int) -> dict[str, torch.Tensor]:
        if parts == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return original(self, batch, parts)

    monkeypatch.setattr(Stepper, "_backward", cramped)
    run = quick_run("cramped")
    guard = next(event for event in run.log if event["event"] == "memory_guard")
    assert "2 parts" in guard["message"]
    assert len(run.log.epochs) == 3


def test_gradients_added_up_over_parts_equal_those_of_the_whole_batch_without_batch_norm(quick_run: Quick) -> None:
    settings = {"model": "plain", "filters": [8, 8], "batch_norm": False, "optimizer": "sgd", "lr": 0.01, "epochs": 1}
    whole, parts = quick_run("whole", **settings), quick_run("parts", accumulate=4, **settings)
    for key, value in weights(whole).items():
        assert torch.allclose(value, weights(parts)[key], atol=1e-5), key


def test_early_stopping_restores_the_best_weights(quick_run: Quick) -> None:
    run = quick_run("early", optimizer="sgd", lr=1e-9, schedule="constant", patience=2, epochs=9)
    assert run.summary.stopped == "early"
    accuracies = [epoch.val["accuracy"] for epoch in run.log.epochs]
    assert run.summary.epochs == accuracies.index(max(accuracies)) + 1 + 2
    assert run.scores["val"]["accuracy"].value == max(accuracies)


def test_of_equal_epochs_the_later_is_kept_and_none_counts_as_progress(
    quick_run: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Validation, "scores", lambda _: {"accuracy": 0.5, "loss": 1.0})
    assert quick_run("equal", epochs=3).summary.best_epoch == 3
    assert quick_run("patient", epochs=9, patience=2).summary.epochs == 3


def test_recomputed_activations_change_nothing(quick_run: Quick) -> None:
    assert same(weights(quick_run("kept")), weights(quick_run("recomputed", checkpoint_activations=True)))


def test_giving_freed_memory_back_changes_no_bit_of_the_weights(quick_run: Quick) -> None:
    kept, back = (quick_run(f"keep-{keep}", epochs=1, keep_memory=keep) for keep in (True, False))
    assert same(weights(kept), weights(back))


def test_a_budget_in_minutes_ends_the_run_with_the_rate_near_zero(quick_run: Quick) -> None:
    run = quick_run("budget", epochs=10_000, minutes=0.02)
    assert run.summary.stopped == "minutes"
    assert run.log.epochs[-1].lr < 0.02


def test_the_artefact_answers_as_it_did_when_it_was_saved(quick_run: Quick) -> None:
    run = quick_run("golden")
    assert check_golden(run.model_folder, load(run.model_folder)) < 1e-5


def test_an_unknown_setting_is_refused_with_the_nearest_one(quick_run: Quick) -> None:
    with pytest.raises(ConfigError, match="unknown setting") as caught:
        quick_run("typo", epoch=3)
    assert "epochs" in str(caught.value.do)


def test_a_third_signal_ends_the_process_at_once() -> None:
    stop = guards.StopRequest(lambda _: None)
    stop._note(2, None)
    stop._note(2, None)
    assert stop.made
    with pytest.raises(KeyboardInterrupt):
        stop._note(2, None)


def test_a_tensorboard_log_holds_every_epoch_of_the_run(quick_run: Quick) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = quick_run("board", tensorboard=True)
    log = events.EventAccumulator(str(run.path / "tensorboard"))
    log.Reload()
    logged = [(e.step, pytest.approx(e.value)) for e in log.Scalars("accuracy/val")]
    assert [(e.epoch, e.val["accuracy"]) for e in run.log.epochs] == logged


def test_the_split_is_drawn_with_the_share_that_the_config_tells(
    tmp_path: Path, quick_settings: dict[str, Any]
) -> None:
    labels = np.arange(600) % 3
    images = np.random.default_rng(0).integers(0, 255, (600, 8, 8), dtype=np.uint8)
    arrays = {"images": images, "labels": labels}
    run = train(arrays, name="shares", out=tmp_path, **(quick_settings | {"subset": None, "epochs": 1}))
    counts = {split: entry.n for split, entry in run.data.splits.items()}
    assert counts["val"] == round(600 * run.config.data.val_fraction)


def test_a_catalogue_set_is_divided_as_its_own_defaults_say() -> None:
    for name, settings in DIVIDED_BY_NAME.items():
        assert settings.items() <= defaults.data_defaults(name).items()
    assert defaults.data_defaults("a folder of mine") == {}


def test_a_run_counts_parameters_as_the_layer_table_does(quick_run: Quick) -> None:
    run = quick_run("counted", model="plain", filters=[4, 8], epochs=1)
    network = load(run.model_folder).network
    counts = (run.summary.parameters, run.summary.trainable)
    statistics = sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    assert counts[1] == sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert counts[0] == sum(p.numel() for p in network.parameters()) + statistics


def test_a_loss_that_ends_above_guessing_is_warned_of(quick_run: Quick) -> None:
    lost = quick_run("lost", optimizer="sgd", lr=1e3, epochs=2)
    warned = [event for event in lost.log if event["event"] == "no_better_than_guessing"]
    assert len(warned) == 1
    assert "lower --lr" in warned[0]["message"]
    learned = quick_run("learned", epochs=4)
    assert "no_better_than_guessing" not in [event["event"] for event in learned.log]


def test_the_rate_falls_with_every_step_taken_where_keras_decay_is_asked_for(quick_run: Quick) -> None:
    run = quick_run("keras", schedule="constant", warmup=0.0, lr=0.1, optimizer="sgd", rate_decay=0.5, epochs=2)
    steps = next(event for event in run.log if event["event"] == "start")["steps_per_epoch"]
    rates = [event["lr"] for event in run.log if event["event"] == "epoch"]
    assert rates == pytest.approx([0.1 / (1 + 0.5 * (epoch * steps - 1)) for epoch in (1, 2)])
