"""Every verb works for every task: each passes from training to its report on small data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import opsin
from opsin.cli import main
from opsin.io.images import encode_png
from opsin.tasks import card_of, get_task, task_names

EMBEDDED = {"classify": "digits", "multilabel": "digit_tags", "localize": "digit_scenes", "segment": "digit_masks"}
FEW = "train=48,val=24,test=24"
SIDE = 12


class Trained(NamedTuple):
    """A run `a`, another `b` of one more filter, and where everything lies."""

    task: str
    data: str
    folder: Path

    @property
    def settings(self) -> list[str]:
        model = "unet" if get_task(self.task).pixelwise else "tiny"
        fixed = ["--epochs", "1", "--model", model, "--batch-size", "24", "--threads", "1", "--precision", "float32"]
        made = [] if self.data.endswith(".npz") or self.data == "digits" else ["--scenes", "48", "--input-size", "24"]
        return [*fixed, "--subset", FEW, "--channels-last", "--no-preflight", *made]

    def image(self) -> Path:
        """The first image of val as a file."""
        source = opsin.dataset_of(opsin.Run(self.folder / "a")).splits["val"]
        file = self.folder / "image.png"
        file.write_bytes(encode_png(np.asarray(source.image(0))))
        return file


def brightness_data(folder: Path) -> str:
    """Noisy grey images, and how bright each is: as an .npz."""
    generator = np.random.default_rng(0)
    levels = generator.uniform(30, 220, 400)
    images = np.clip(levels[:, None, None] + generator.normal(0, 20, (400, SIDE, SIDE)), 0, 255).astype(np.uint8)
    np.savez(folder / "numbers.npz", images=images, numbers=np.stack([levels, 1000 - 2 * levels], axis=1))
    return str(folder / "numbers.npz")


@pytest.fixture(scope="module", params=task_names())
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two small runs of each task."""
    folder = tmp_path_factory.mktemp(request.param)
    found = Trained(request.param, EMBEDDED.get(request.param) or brightness_data(folder), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        for name in ("a", "b"):
            made = main(["train", found.data, "--name", name, "--runs", str(folder), "--quiet", *found.settings])
            assert made == 0
    return found


@pytest.fixture
def asked(trained: Trained, capfd: pytest.CaptureFixture[str]) -> Any:
    """What a verb prints with --json."""

    def ask(verb: str, *words: str, quiet: Sequence[str] = ("--quiet",)) -> dict[str, Any]:
        capfd.readouterr()
        assert main([verb, *words, "--json", *quiet, "--runs", str(trained.folder)]) == 0
        found: dict[str, Any] = json.loads(capfd.readouterr().out)
        return found

    return ask


def test_a_robustness_card_has_curves_and_classes(trained: Trained, asked: Any) -> None:
    card = asked("evaluate", "a", "--robustness")["robustness"]
    assert card["score"] == card_of(trained.task).main_score
    assert len(card["curves"]) == 9
    assert all(cell["n"] > 0 for curve in card["curves"] for cell in curve["cells"])
    assert len(card["classes"]) > 1
    assert all(found["n"] > 0 for found in card["classes"])


def test_the_doctor_looks_at_the_network(trained: Trained, asked: Any) -> None:
    found = asked("doctor", "a")
    assert found["not_made"] == {}


def test_folds_are_trained_and_their_predictions_kept(trained: Trained, asked: Any) -> None:
    found = asked("cv", trained.data, "--folds", "2", "--name", "cv", *trained.settings)
    assert card_of(trained.task).main_score in found["scores"]
    assert len(found["runs"]) == 2


def test_the_exported_file_answers_as_the_network(trained: Trained, asked: Any, tmp_path: Path) -> None:
    found = asked("export", "a", "--format", "torch", "--out", str(tmp_path / "a.pt2"))
    assert found["differences"]


def test_what_a_prediction_depends_on_is_drawn(trained: Trained, asked: Any, tmp_path: Path) -> None:
    found = asked("explain", "a", str(trained.image()), "--method", "all", "--figures", str(tmp_path / "figures"))
    assert all(Path(file).is_file() for file in found["files"])
    assert any("attribution" in file for file in found["files"])


def test_mistakes_are_explained(trained: Trained, asked: Any, tmp_path: Path) -> None:
    found = asked("explain", "a", "--mistakes", "--count", "2", "--figures", str(tmp_path / "figures"))
    assert len(found["files"]) >= 2


def test_runs_are_compared_by_the_main_score(trained: Trained, asked: Any) -> None:
    found = asked("compare", "a", "b")
    (pair,) = found["pairs"]
    assert pair["low"] <= pair["difference"] <= pair["high"]


def test_an_image_is_predicted(trained: Trained, asked: Any) -> None:
    (said,) = asked("predict", "a", str(trained.image()))["predictions"]
    assert said["label"]


def test_the_report_shows_the_run(trained: Trained, asked: Any) -> None:
    asked("report", "a")
    assert (trained.folder / "a" / "report.html").stat().st_size > 10_000
