"""The published mistakes, replayed: each is named before the first step, and a good run is not touched."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from opsin.batches.preprocess import Preprocess
from opsin.cli import main
from opsin.data.load import load
from opsin.errors import DataError, PreflightError
from opsin.io.tensors import read_tensors
from opsin.models.parts.network import Network
from opsin.report import write_report
from opsin.runs import Run
from opsin.tasks.classify.task import Classify
from opsin.training import features, train
from opsin.training.preflight import checks as preflight
from opsin.training.preflight import input_checks as preflight_input
from opsin.training.setup import origin, preparing
from opsin.types import Score

Quick = Callable[..., Run]


def photos(n: int = 160, classes: int = 5) -> dict[str, Any]:
    """Colour images whose class is the direction of a wave, with noise."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:16, 0:16] / 16
    labels = np.arange(n) % classes
    angles = np.pi * labels / classes
    phase = generator.uniform(0, 6, n)[:, None, None]
    wave = np.sin(9 * (np.cos(angles)[:, None, None] * x + np.sin(angles)[:, None, None] * y) + phase)
    pixels = 120 + 60 * wave[:, None] + generator.normal(0, 25, (n, 3, 16, 16))
    return {"x": np.clip(pixels, 0, 255).astype(np.uint8), "y": labels}


SETTINGS: dict[str, Any] = {
    "batch_size": 32,
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "quiet": True,
    "shift": 0,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A network that was trained on inputs in [-1, 1], with batch norm after its first convolution."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(folder / "cache"))
        network = {"model": "plain", "filters": [8, 8], "batch_norm": True, "normalize": "signed", "epochs": 4}
        network["batch_size"] = 8  # enough steps for the running statistics to forget where they began
        return train(photos(), name="base", out=folder, **(SETTINGS | network))


@pytest.fixture
def tuned(base: Run, tmp_path: Path) -> Quick:
    """Fine-tunes `base` for one epoch."""

    def trained(name: str = "tuned", **settings: Any) -> Run:
        return train(
            photos(), name=name, out=tmp_path, **(SETTINGS | {"weights": str(base.path), "epochs": 1} | settings)
        )

    return trained


def test_a_good_run_passes_and_what_was_found_is_in_its_log(tuned: Quick) -> None:
    event = tuned().log[0]
    assert event["event"] == "preflight"
    checks = ["targets", "input", "norms", "head", "loss", "gradients", "learning", "shuffled"]
    assert list(event["checks"]) == checks
    assert event["checks"]["head"] == "5 outputs for 5 classes"
    assert "2 batch norms stay" in event["checks"]["norms"]


def test_time_and_memory_are_forecast_before_the_first_step_and_stand_beside_what_was_measured(
    quick_run: Quick,
) -> None:
    run = quick_run("forecast", epochs=1, model="plain", filters=[4])
    found = next(event for event in run.log if event.event == "forecast")
    low, high = found["memory_bytes"]
    assert 0 < low <= high
    assert "s if steps are as fast as when they were timed" in str(found["message"])
    page = write_report(run).read_text("utf-8")
    beside = re.search(r"Peak memory</dt><dd>[\d.]+ [MG]B <span[^>]*>forecast: [\d.]+ [MG]B to [\d.]+ [MG]B", page)
    assert beside, page[page.index("Peak memory") :][:200]
    assert "forecast" not in {event.event for event in quick_run("unchecked", epochs=1, preflight=False).log}


def test_a_run_that_was_checked_has_the_bits_of_one_that_was_not(quick_run: Quick) -> None:
    settings: dict[str, Any] = {"epochs": 1, "dropout": 0.3, "model": "plain", "batch_norm": True}
    torch.manual_seed(3)
    checked = quick_run("checked", **settings)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    unchecked = quick_run("unchecked", preflight=False, **settings)
    assert unchecked.log[0]["event"] == "start"
    assert torch.equal(state, torch.get_rng_state())
    a, b = (read_tensors(run.model_folder / "weights.safetensors")[0] for run in (checked, unchecked))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_range_of_the_input_is_named_where_it_is_not_what_the_weights_expect(
    tuned: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = preparing._contract

    def unit(*args: Any) -> Preprocess:
        return replace(original(*args), range=(0.0, 1.0))

    monkeypatch.setattr(preparing, "_contract", unit)
    with pytest.raises(PreflightError, match="not mapped as the pretrained weights expect") as caught:
        tuned()
    assert "[0, 1]" in str(caught.value.got)
    assert "[-1, 1]" in str(caught.value.expected)


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (0.0, 255.0)])
def test_weights_whose_range_was_told_wrongly_are_recognized_by_their_first_batch_norm(
    tuned: Quick, monkeypatch: pytest.MonkeyPatch, wrong: tuple[float, float]
) -> None:
    original = origin._from_run

    def told(run: Run) -> origin.Origin:
        found = original(run)
        wrongly = replace(found.preprocess, range=wrong)
        return replace(found, preprocess=wrongly, record={**found.record, "naming": "torchvision"})

    monkeypatch.setattr(origin, "_from_run", told)
    with pytest.raises(PreflightError, match=r"another input range: `(signed|lite)`"):  # these two are almost equal
        tuned()


def test_images_that_were_divided_by_255_before_are_named(base: Run, tmp_path: Path) -> None:
    data = photos()
    data["x"] = (data["x"] > 120).astype(np.uint8)  # what is left of pixels in [0, 1] when they are stored as bytes
    with pytest.raises(PreflightError, match="small part of the pixel range"):
        train(
            data, name="flat", out=tmp_path, allow_leaks=True, **(SETTINGS | {"weights": str(base.path), "epochs": 1})
        )


def test_batch_norm_in_training_mode_in_frozen_layers_is_named(tuned: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "pin_norms", lambda backbone: 0)
    with pytest.raises(PreflightError, match="batch norm of 2 frozen or pretrained layers"):
        tuned(finetune="top:1")


def test_a_head_of_ten_for_five_classes_is_named(
    quick_run: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Classify.build
    monkeypatch.setattr(Classify, "build", lambda self, spec, count: original(self, spec, 10))
    with pytest.raises(PreflightError, match="10 outputs for 5 classes") as caught:
        train(photos(), name="ten", out=tmp_path, model="plain", filters=[4], epochs=1, **SETTINGS)
    assert caught.value.exit_code == 3


def test_a_test_split_that_is_taken_as_val_is_refused() -> None:
    data = photos(60)
    arrays = {"x_train": data["x"][:40], "y_train": data["y"][:40]}
    arrays |= {f"{k}_{split}": data[k][40:] for k in ("x", "y") for split in ("val", "test")}
    dataset = load(arrays)
    with pytest.raises(DataError, match="more than one split"):
        train(dataset, model="plain", filters=[4], epochs=1, **SETTINGS)


def test_a_first_loss_far_above_chance_is_named(quick_run: Quick) -> None:
    with pytest.raises(PreflightError, match="far too high before the first step"):
        quick_run("loud", model="plain", batch_norm=False, filters=[64, 64, 64], dense=[256], normalize="none")


def test_a_backbone_that_no_gradient_reaches_is_named(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Network, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.backbone(self.normalize(images)).detach()
        return {name: head(features) for name, head in self.heads.items()}

    monkeypatch.setattr(Network, "forward", forward)
    with pytest.raises(PreflightError, match="no gradient reaches") as caught:
        quick_run("detached")
    assert "backbone" in str(caught.value.where)


def test_images_that_cannot_be_learned_are_named(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_learned", lambda *args, **kwargs: [2.3, 2.31, 2.29])
    with pytest.raises(PreflightError, match="cannot be overfit"):
        quick_run("stuck")


def test_a_score_that_permuted_labels_can_reach_is_named(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaky(*args: object, **kwargs: object) -> Mapping[str, Score]:
        return {"accuracy": Score(0.97), "loss": Score(0.1)}

    monkeypatch.setattr(Classify, "scores", leaky)
    with pytest.raises(PreflightError, match="permuted labels predict val better than chance"):
        quick_run("leaky")


def test_checks_that_come_late_are_left_out_and_that_is_said(quick_run: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "LATEST", 0.0)
    checks = quick_run("late", epochs=1).log[0]["checks"]
    assert "too long" in checks["learning"]
    assert "10 outputs" in checks["head"]


def test_the_command_line_ends_with_code_3_and_no_preflight_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "_learned", lambda *args, **kwargs: [2.3, 2.31, 2.29])
    command = ["train", "digits", "--out", str(tmp_path), "--filters", "8", "--epochs", "1", "--subset", "train=200"]
    command += ["--threads", "1", "--precision", "float32", "--channels-last", "--quiet"]
    assert main([*command, "--name", "a"]) == 3
    assert "cannot be overfit" in capsys.readouterr().err
    assert main([*command, "--name", "b", "--no-preflight"]) == 0


@pytest.mark.parametrize("source", ["digit_scenes", "digit_masks"])
def test_boxes_and_masks_pass_too(source: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"scenes": 60} | ({"scene_digits": "digits"} if source == "digit_scenes" else {})
    options = {"epochs": 1, "precision": "float32", "channels_last": True, "threads": 1, "quiet": True, "minutes": 0.01}
    checks = train(source, name="passes", out=tmp_path, **(settings | options)).log[0]["checks"]
    assert "learns" in checks["learning"]
    assert checks["shuffled"].startswith("not checked")


def test_a_budget_that_ends_before_all_features_are_computed_is_checked_with_those_that_are_there(
    tuned: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = features._Pieces.before

    def few(self: Any, until: float) -> Any:
        rows, array = original(self, math.inf)
        return rows[:20], array[:20]

    monkeypatch.setattr(features._Pieces, "before", few)
    run = tuned(finetune="head", minutes=1.0)
    assert run.log[0]["checks"]["shuffled"].startswith("accuracy")


def test_the_misfit_of_equal_statistics_is_that_of_the_sampling_alone() -> None:
    norm = torch.nn.BatchNorm2d(3)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 32, 32, generator=generator)
    assert preflight_input.divergence(images, norm) == pytest.approx(0, abs=1e-3)
    # by hand: KL(N(1, 4) || N(0, 1)) = (4 + 1 - 1 - ln 4) / 2
    assert preflight_input.divergence(2 * images + 1, norm) == pytest.approx((4 - np.log(4)) / 2, abs=0.05)


def test_ranges_that_fit_equally_well_are_both_named() -> None:
    assert preflight_input.alike_fits({"used": 0.9, "lite": 0.102, "signed": 0.105, "unit": 0.6}) == ["lite", "signed"]
    assert preflight_input.alike_fits({"used": 0.9, "lite": 0.4, "unit": 0.1}) == ["unit"]


def test_labels_that_were_shuffled_against_their_images_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = load_digits()
    images = (digits.images * 15.9).astype(np.uint8)
    settings: dict[str, Any] = {
        "precision": "float32",
        "channels_last": True,
        "threads": 1,
        "epochs": 1,
        "filters": [8],
    }
    found = {}
    for name, labels in (("right", digits.target), ("mixed", np.random.default_rng(0).permutation(digits.target))):
        file = tmp_path / f"{name}.npz"
        np.savez(file, x_train=images[:800], y_train=labels[:800], x_val=images[1400:], y_val=labels[1400:])
        run = train(str(file), name=name, out=tmp_path, **settings)
        found[name] = run.log[0]["checks"]["shuffled"]
        printed = capsys.readouterr().err
        assert ("preflight: warning" in printed) == (name == "mixed")
    assert found["right"].startswith("accuracy")
    assert found["mixed"].startswith("warning: labels predict val no better")
