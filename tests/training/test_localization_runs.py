"""Whole runs of localization: every verb on a small set of digit scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.cli import main
from opsin.config import DataConfig
from opsin.data.load import load
from opsin.errors import ConfigError
from opsin.evaluation import evaluate
from opsin.io.files import write_atomically
from opsin.io.images import encode_png
from opsin.report import write_report
from opsin.runs import Run
from opsin.training import train

SETTINGS = {
    "scenes": 600,
    "subset": "val=90,test=90",
    "filters": (8, 16),
    "batch_size": 50,
    "epochs": 2,
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "quiet": True,
}
NAMED = {"accuracy", "mean_iou", "median_iou", "good_boxes", "joint_accuracy", "centre_error_px", "size_error_px"}


@pytest.fixture(autouse=True)
def no_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes are of embedded digits, whatever lies on this machine."""
    monkeypatch.delenv("OPSIN_DATA", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("OPSIN_DATA", raising=False)
        return train("digit_scenes", name="scenes", out=tmp_path_factory.mktemp("runs"), **SETTINGS)


def test_a_run_scores_class_and_box_with_intervals(run: Run) -> None:
    scores = run.scores["val"]
    assert set(scores) >= NAMED
    assert all(scores[name].low <= scores[name].value <= scores[name].high for name in NAMED)


def test_both_losses_are_logged_apart_and_add_up(run: Run) -> None:
    weight = run.config.train.box_weight
    for epoch in run.log.epochs:
        for part in (epoch.train, epoch.val):
            assert part["loss"] == pytest.approx(part["class_loss"] + weight * part["box_loss"], abs=1e-5)


def test_boxes_improve_over_the_epochs(run: Run) -> None:
    first, last = run.log.epochs[0], run.log.epochs[-1]
    assert last.train["box_loss"] < first.train["box_loss"]


def test_evaluation_gives_the_scores_of_the_run(run: Run) -> None:
    found = evaluate(run)
    for name in NAMED:
        assert found.scores[name].value == pytest.approx(run.scores["val"][name].value, rel=1e-5, abs=1e-6)


def test_the_report_shows_boxes_and_both_losses(run: Run, tmp_path: Path) -> None:
    page = write_report(run, out=tmp_path / "r.html").read_text(encoding="utf-8")
    for words in ("Loss of the class", "Loss of the box", "Worst boxes", "Best boxes"):
        assert words in page
    assert page.count("IoU <b>") == len(run.scores["val"].details["mistakes"])


def test_prediction_gives_the_box_in_pixels_of_the_file(run: Run, tmp_path: Path) -> None:
    scene = load("digit_scenes", config=DataConfig(scenes=200)).splits["train"].image(0)
    large = np.repeat(np.repeat(scene, 2, axis=1), 4, axis=2)
    for name, pixels in (("small", scene), ("large", large)):
        write_atomically(tmp_path / f"{name}.png", encode_png(pixels))
    small, scaled = run.predict(tmp_path / "small.png", tmp_path / "large.png")
    assert small.box is not None
    assert scaled.box is not None
    np.testing.assert_allclose(np.array(scaled.box) / [4, 2, 4, 2], small.box, atol=1.5)


def test_predicted_boxes_are_drawn(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_atomically(tmp_path / "scene.png", encode_png(np.zeros((1, 80, 90), np.uint8)))
    files = [str(tmp_path / "scene.png"), "--boxes", str(tmp_path / "drawn")]
    assert main(["predict", str(run.path), *files, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["predictions"]
    assert len(told["box"]) == 4
    assert (tmp_path / "drawn" / "scene.png").is_file()


@pytest.mark.parametrize(
    ("data", "settings"),
    [("digit_scenes", SETTINGS | {"mask_loss": "dice"}), ("digits", {"box_loss": "iou", "quiet": True})],
)
def test_a_setting_of_another_task_is_refused(tmp_path: Path, data: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is for another task"):
        train(data, name="r", out=tmp_path, **settings)
    assert not (tmp_path / "r").exists()
