"""When not to answer: fitted on val, kept in the artefact, used by predict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import opsin
from opsin import artifact as artifacts
from opsin.answering import UNLIKE, Answering, answering_of, watched_distances
from opsin.cli import main
from opsin.errors import ArtifactError, ConfigError, RefusedError
from opsin.inference.cautious import CautiousPredictor, predict_cautiously
from opsin.inference.predictor import Predictor
from opsin.io.files import read_json
from opsin.io.images import encode_png
from opsin.runs import Run, dataset_of
from opsin.tasks.targets import Targets


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        return opsin.train(
            "digits",
            out=tmp_path_factory.mktemp("runs"),
            epochs=6,
            threads=1,
            precision="float32",
            channels_last=True,
            preflight=False,
            quiet=True,
        )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 test digits, and 10 of them inverted."""
    folder = tmp_path_factory.mktemp("images")
    source = opsin.load("digits").splits["test"]
    for i in range(40):
        (folder / f"digit{i:02d}.png").write_bytes(encode_png(source.image(i)))
    for i in range(10):
        (folder / f"inverted{i}.png").write_bytes(encode_png(255 - source.image(i)))
    return folder


def columns(num_samples: int = 200, seed: int = 0) -> Answering:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(4, 0.2), num_samples)
    labels = (probabilities.cumsum(1) < generator.random((num_samples, 1))).sum(1).clip(0, 3)
    targets = Targets(ids=[str(i) for i in range(num_samples)], labels=labels)
    found = answering_of({"probabilities": probabilities}, targets)
    assert found is not None
    return found


def test_a_training_leaves_what_val_says_in_the_artefact(run: Run) -> None:
    rules = artifacts.load_proved(run.model_folder).answering
    val = run.predictions("val")
    assert rules is not None
    assert rules.confidence.tolist() == val["probabilities"].max(1).tolist()
    assert rules.correct.mean() == run.scores["val"]["accuracy"].value
    assert len(rules.distance) == len(val["labels"])
    assert read_json(run.model_folder / "model.json")["format"] == 2


def test_distances_of_val_are_measured_again_by_a_predictor(run: Run) -> None:
    artifact = artifacts.load(run.model_folder)
    assert artifact.answering is not None
    images = torch.from_numpy(np.stack([dataset_of(run).splits["val"].image(i) for i in range(20)]))
    with watched_distances(artifact.network, torch.from_numpy(artifact.answering.bank)) as found:
        Predictor(artifact).run(images)
    np.testing.assert_allclose(torch.cat(found).numpy(), artifact.answering.distance[:20], atol=2e-3)


def test_an_artefact_without_it_is_of_the_former_format_and_refuses_caution(
    run: Run, images: Path, tmp_path: Path
) -> None:
    artifact = replace(artifacts.load(run.model_folder), answering=None)
    artifacts.save(tmp_path / "model", artifact, golden_images=torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    assert read_json(tmp_path / "model" / "model.json")["format"] == 1
    assert predict_plain(tmp_path / "model", images)
    with pytest.raises(RefusedError, match="has no val statistics"):
        predict_cautiously(tmp_path / "model", [images], coverage=0.9)


def predict_plain(model: Path, images: Path) -> int:
    return len(Predictor(artifacts.load_proved(model)).files(sorted(images.iterdir())))


@pytest.mark.parametrize(
    "change", [{"true_class": torch.zeros(3)}, {"correct": torch.zeros(200)}, {"extra": torch.zeros(1)}]
)
def test_columns_that_do_not_fit_are_refused(change: dict[str, torch.Tensor]) -> None:
    tensors = columns().tensors()
    assert len(Answering.from_tensors(tensors, where="here")) == 200
    with pytest.raises(ArtifactError):
        Answering.from_tensors(tensors | change, where="here")


def test_predict_gives_sets_abstains_and_knows_strange_images(
    run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(run.path), str(images), "--coverage", "0.95", "--abstain", "0.2", "--json"]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    digits = [entry for entry in document["predictions"] if "digit" in Path(entry["file"]).name]
    inverted = [entry for entry in document["predictions"] if "inverted" in Path(entry["file"]).name]
    threshold = document["caution"]["set_threshold"]
    for entry in digits:
        likely = [label for label, share in entry["top"] if share >= threshold]
        assert entry["possible"][:5] == likely
    unlike = [entry for entry in inverted if entry["typicality"] <= UNLIKE]
    assert len(unlike) >= 9  # of 10: the weights of the training differ by rounding from machine to machine
    assert not any(entry["answered"] for entry in unlike)
    assert np.mean([entry["answered"] for entry in digits]) > 0.5
    assert document["caution"]["abstain"]["bound"] <= 0.2


def test_a_plain_prediction_says_nothing_of_it(run: Run, images: Path) -> None:
    plain = run.predict(images / "digit00.png")
    cautious = run.predict(images / "digit00.png", coverage=0.9)
    assert "possible" not in plain.to_json()
    assert cautious.possible is not None
    assert (plain.label, plain.score) == (cautious.label, cautious.score)


def test_what_cannot_be_promised_is_refused_with_what_can(run: Run) -> None:
    rules = columns(100)
    with pytest.raises(RefusedError, match="can be guaranteed"):
        rules.abstention(0.005)
    with pytest.raises(ConfigError):
        rules.set_threshold(1.0)
    artifact = artifacts.load(run.model_folder)
    with pytest.raises(ConfigError):
        CautiousPredictor(replace(artifact, task="segment", answering=None), coverage=0.9)


@pytest.mark.parametrize("option", [["--tta", "flip"], ["--masks", "m"], ["--tile", "64"], ["--boxes", "b"]])
def test_predict_refuses_caution_beside_other_ways_of_prediction(run: Run, images: Path, option: list[str]) -> None:
    assert main(["predict", str(run.path), str(images), "--coverage", "0.9", *option]) == 2
