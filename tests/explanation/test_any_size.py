"""Converting a run, and the map of predictions on a photo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from opsin import artifact as artifacts
from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.cli import main
from opsin.config import ModelConfig, RunConfig
from opsin.errors import ConfigError, RunError
from opsin.explanation.any_size import convert_run, map_predictions
from opsin.io.files import write_atomically
from opsin.io.images import encode_png
from opsin.models.registry import ModelSpec, resolve_options
from opsin.runs import Run, RunWriter
from opsin.tasks import get_task
from opsin.types import SizePolicy

SIDE = 8


@pytest.fixture
def made(tmp_path: Path) -> Run:
    """A run of a dense network that tells left (bright) from right, without any training."""
    options = resolve_options("dense", ModelConfig(dense=(), dropout=0.0))
    spec = ModelSpec(name="dense", channels=1, height=SIDE, width=SIDE, options=options)
    network = get_task("classify").build(spec, 2)
    for value in network.state_dict().values():
        value.zero_()
    weights = next(value for name, value in network.state_dict().items() if value.ndim == 2)
    weights.reshape(2, SIDE, SIDE)[0, :, : SIDE // 2] = 1.0
    weights.reshape(2, SIDE, SIDE)[1, :, SIDE // 2 :] = 1.0
    preprocess = Preprocess(
        size=SizePolicy(height=SIDE, width=SIDE), color="gray", range=(0.0, 1.0), mean=(0.0,), std=(1.0,)
    )
    run = RunWriter.create(RunConfig(source="made"), name="sides", out=tmp_path).run
    artifact = Artifact(
        network=network, task="classify", classes=("left", "right"), spec=spec, preprocess=preprocess, meta={}
    )
    artifacts.save(run.model_folder, artifact, golden_images=torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8))
    return run


def photo(folder: Path) -> Path:
    """White with a black bar down the middle: its left edge looks like `left`, its right edge like `right`."""
    pixels = np.full((3, 16, 32), 255, dtype=np.uint8)
    pixels[:, :, 12:20] = 0
    write_atomically(folder / "bar.png", encode_png(pixels))
    return folder / "bar.png"


def test_the_new_run_answers_as_the_old_one_and_says_where_it_comes_from(made: Run, tmp_path: Path) -> None:
    converted = convert_run(made, out=tmp_path)
    assert converted.max_difference <= 1e-5
    assert converted.run.path != made.path
    summary = converted.run.summary
    assert summary.converted_from == str(made.path)
    assert summary.run == str(converted.run.path)
    assert summary.command == f"opsin convert {made.path} --fully-convolutional --name {converted.run.name}"
    loaded = artifacts.load(converted.run.model_folder)
    assert artifacts.check_golden(converted.run.model_folder, loaded) < 1e-5
    images = torch.randint(0, 256, (3, 1, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before, after = (artifacts.answers(a, images)["logits"] for a in (artifacts.load(made.model_folder), loaded))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


def test_the_map_says_where(made: Run, tmp_path: Path) -> None:
    artifact = convert_run(made, out=tmp_path).artifact
    found = map_predictions(artifact, photo(tmp_path), short_side=16)
    assert found.probabilities.shape == (2, 9, 25)
    assert found.strides == (1.0, 1.0)
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-6)
    assert (found.probabilities[0, :, 8] > 0.99).all()  # window 8 to 16: bright left, dark right
    assert (found.probabilities[1, :, 16] > 0.99).all()
    assert sum(found.to_dict()["shares"].values()) == pytest.approx(1)


def test_the_command_writes_a_run_and_a_heat_map(made: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(made.path), "--out", str(tmp_path), "--figure", str(tmp_path / "map.png")]
    assert main([*arguments, "--fully-convolutional", "--image", str(photo(tmp_path)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["max_difference"] <= 1e-5
    assert Run(found["run"]).model_folder.is_dir()
    assert (tmp_path / "map.png").is_file()
    assert main(arguments) == 2
    assert "--fully-convolutional" in capsys.readouterr().err


def test_a_converted_run_is_not_converted_again(made: Run, tmp_path: Path) -> None:
    converted = convert_run(made, out=tmp_path, name="once")
    with pytest.raises(ConfigError, match="cannot be converted"):
        convert_run(converted.run, out=tmp_path)
    with pytest.raises(RunError, match="exists"):
        convert_run(made, out=tmp_path, name="once")


def test_a_photo_smaller_than_the_training_images_is_refused(made: Run, tmp_path: Path) -> None:
    artifact = convert_run(made, out=tmp_path).artifact
    with pytest.raises(ConfigError, match="too small"):
        map_predictions(artifact, photo(tmp_path), short_side=SIDE - 1)
