"""Options of `opsin predict` that a network has no answer to are refused before any image is read; boxes are drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from opsin.artifact import Artifact, save
from opsin.batches.preprocess import Preprocess
from opsin.cli import main
from opsin.inference import pictures as predict_pictures
from opsin.inference import predictor as predict
from opsin.inference import tiles as predict_tiles
from opsin.io.images import encode_png, read_image
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec
from opsin.tasks import get_task
from opsin.types import SizePolicy, TaskName

SIDE = 16
TASKS: tuple[TaskName, ...] = ("classify", "localize")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network for each task, a photo, and another of the same name elsewhere."""
    made = tmp_path_factory.mktemp("predict")
    spec = ModelSpec(name="tiny", channels=1, height=SIDE, width=SIDE)
    size = SizePolicy(height=SIDE, width=SIDE)
    contract = Preprocess(size=size, color="gray", range=(0.0, 1.0), mean=(0.5,), std=(0.25,))
    for task in TASKS:
        with seeded(0):
            network = get_task(task).build(spec, 2).eval()
        artifact = Artifact(network=network, task=task, classes=("cat", "dog"), spec=spec, preprocess=contract, meta={})
        save(made / task, artifact, golden_images=torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8))
    for place in (made, made / "other"):
        place.mkdir(exist_ok=True)
        (place / "photo.png").write_bytes(encode_png(np.full((3, 20, 30), 90, np.uint8)))
    return made


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an image fails the test."""

    def fail(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(predict, "image_of", fail)
    monkeypatch.setattr(predict_pictures, "read_image", fail)
    monkeypatch.setattr(predict_tiles, "open_pixels", fail)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("task", "options", "named"),
    [
        ("classify", "--boxes new", "predicts no boxes"),
        ("classify", "--masks new", "predicts no masks"),
        ("localize", "--masks new", "predicts no masks"),
        ("localize", "--masks new --tile 64", "only masks are predicted in tiles"),
        ("localize", "--masks new --boxes new", "--boxes with --masks"),
        ("localize", "--boxes new --tile 64", "--boxes with --tile"),
        ("localize", "--boxes new --overlap 8", "--overlap needs --tile"),
        ("classify", "--tile 64", "--masks FOLDER"),
        ("localize", "--boxes photo.png", "cannot write"),
        ("localize", "--boxes .", "overwrite the images"),
        ("localize", "other --boxes new", "one picture would overwrite the other"),
    ],
)
def test_what_a_network_cannot_give_is_refused_before_an_image_is_read(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    options: str,
    named: str,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["predict", task, "photo.png", *options.split()]) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert captured.out == ""
    assert not (folder / "new").exists()


def test_predicted_boxes_are_drawn_in_the_size_of_the_photo(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(folder / "localize"), str(folder / "photo.png"), "--boxes", str(tmp_path / "drawn")]
    assert main([*command, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["predictions"]
    assert len(told["box"]) == 4
    drawn = read_image(tmp_path / "drawn" / "photo.png").pixels
    assert drawn.shape == (3, 20, 30)
    assert (drawn != 90).any()
