"""Scores on all samples and on those without a copy in the training split, side by side."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from opsin import artifact as artifacts
from opsin.batches.preprocess import measure
from opsin.cli import main
from opsin.config import resolve
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.errors import ConfigError, DataError
from opsin.evaluation import evaluate, evaluate_predictions, record_split
from opsin.evaluation.copies import Copies, find_copies
from opsin.evaluation.scoring import scores_without_copies
from opsin.inference.predictor import Predictor
from opsin.models.registry import ModelSpec
from opsin.progress import Bar, Reporter
from opsin.report import write_report
from opsin.runs import DataCard, Run, RunWriter
from opsin.runs.codec import to_json
from opsin.tasks import Targets, get_task
from opsin.types import SizePolicy

CLASSES = ("cat", "dog", "eel")
SIDE = 32
EXACT, NEAR = (0, 4, 9), (1, 12)
NUM_SCORED = 20
WRONG = (2, 3, 5, 6, 7)
"""The network is right on every copy, and on 10 of the 15 samples that have none."""


def scenes(num_images: int, seed: int, side: int = SIDE) -> np.ndarray:
    """Smooth random pictures with some detail, uint8 [N, 3, side, side]."""
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=(num_images, 3, side, side))).float()
    fine, rough = (torch.nn.functional.avg_pool2d(noise, k, 1, k // 2) * k for k in (3, 21))
    return (fine * 12 + rough * 45 + 128).clamp(0, 255).to(torch.uint8).numpy()


def pictures() -> dict[str, np.ndarray]:
    """Images of each split; val and test hold copies of training images, some shifted and darker."""
    wide = scenes(30, 0, SIDE + 4)
    splits = {"train": np.ascontiguousarray(wide[:, :, 2:-2, 2:-2])}
    for seed, split in enumerate(("val", "test"), 1):
        images = scenes(NUM_SCORED, seed)
        images[list(EXACT)] = splits["train"][[3, 3, 11]]
        images[NEAR[0]] = wide[20, :, 1:-3, 3:-1]
        images[NEAR[1]] = (splits["train"][21] * 0.7 + 10).astype(np.uint8)
        splits[split] = images
    return splits


@dataclass(frozen=True)
class World:
    """A finished run over arrays in a file, made by hand."""

    run: Run
    file: Path
    arrays: dict[str, np.ndarray]
    folder: Path


def made(folder: Path, splits: dict[str, np.ndarray]) -> World:
    """A run of an untrained network; val and test are labelled so that it is wrong on `WRONG` alone."""
    channels = splits["train"].shape[1]
    spec = ModelSpec(name="dense", channels=channels, height=SIDE, width=SIDE, options={})
    task, size = get_task("classify"), SizePolicy(height=SIDE, width=SIDE)
    arrays = {f"x_{name}": images for name, images in splits.items()}
    arrays |= {f"y_{name}": np.arange(len(images)) % 3 for name, images in splits.items()}
    arrays["classes"] = np.array(CLASSES)
    torch.manual_seed(0)
    artifact = artifacts.Artifact(
        network=task.build(spec, 3),
        task="classify",
        classes=CLASSES,
        spec=spec,
        preprocess=measure(pack(load(arrays, drawn=False), None)["train"], "unit", size),
        meta={},
    )
    predictor = Predictor(artifact)
    for name, samples in pack(load(arrays, drawn=False), None, splits=["val", "test"]).items():
        said = predictor.samples(samples)["probabilities"].argmax(1)
        arrays[f"y_{name}"] = np.where(np.isin(np.arange(len(said)), WRONG), (said + 1) % 3, said)
    file = folder / "animals.npz"
    np.savez(file, **arrays)
    config = resolve({"source": str(file), "task": "classify"})
    dataset = load(file, config=config.data)
    writer = RunWriter.create(config, name="try", out=folder / "runs")
    about = DataCard(task="classify", name=dataset.name, fingerprint=dataset.fingerprint(), classes=tuple(CLASSES))
    writer.data(about)
    run = writer.run
    packed = pack(dataset, None)
    artifacts.save(run.model_folder, artifact, golden_images=torch.from_numpy(packed["train"].images[:2]))
    predictions, targets = predictor.samples(packed["val"]), Targets.of(packed["val"])
    found = evaluate_predictions(task, predictions, targets, CLASSES)
    record_split(run, "val", found, predictions, targets, packed["val"].images)
    return World(run=run, file=file, arrays=arrays, folder=folder)


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    return made(tmp_path, pictures())


@pytest.fixture
def grey_world(tmp_path, monkeypatch) -> World:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    return made(tmp_path, {name: images[:, :1].copy() for name, images in pictures().items()})


class Noting(Reporter):
    """Notes what every bar has shown."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.seen: dict[str, list[tuple[int, int]]] = {}

    def show(self, bar: Bar) -> None:
        self.seen.setdefault(bar.title, []).append((bar.done, bar.total))


@pytest.mark.parametrize("split", ["val", "test"])
def test_both_scores_are_those_worked_out_by_hand_with_their_intervals(world, split):
    found = evaluate(world.run, split=split, copies=True)
    without = found.without_copies
    assert (found.n, without.n, without.exact, without.near) == (20, 15, 3, 2)
    assert found.scores["accuracy"].value == pytest.approx(15 / 20)
    assert without.scores["accuracy"].value == pytest.approx(10 / 15)
    interval = binomtest(10, 15).proportion_ci(method="wilson")
    assert without.scores["accuracy"].low == pytest.approx(interval.low)
    assert without.scores["accuracy"].high == pytest.approx(interval.high)
    assert set(without.scores) == set(found.scores)


def test_scores_without_copies_are_kept_beside_the_others(world):
    before = world.run.scores["val"]
    found = evaluate(world.run, copies=True)
    after = world.run.scores["val"]
    assert after.without_copies == found.without_copies
    assert replace(after, without_copies=None) == before


def test_copies_are_not_looked_for_unless_asked(world):
    found = evaluate(world.run)
    assert found.without_copies is None
    assert found.to_json()["without_copies"] is None
    assert world.run.scores["val"].without_copies is None


def test_the_search_opens_test_no_more_often_and_a_later_look_does_not_lose_what_it_found(world):
    without = evaluate(world.run, split="test", copies=True).without_copies
    assert world.run.log.test_openings == world.run.scores["test"].opened == 1
    evaluate(world.run, split="test")
    assert world.run.log.test_openings == world.run.scores["test"].opened == 2
    assert world.run.scores["test"].without_copies == without
    assert world.run.scores["val"].without_copies is None


def test_copies_in_another_set_are_those_of_the_runs_training_images(world):
    arrays = dict(world.arrays) | {"x_train": scenes(30, 7), "x_val": scenes(20, 8)}
    arrays["x_val"][5] = world.arrays["x_train"][17]
    np.savez(world.folder / "other.npz", **arrays)
    found = evaluate(world.run, data=world.folder / "other.npz", copies=True)
    assert (found.without_copies.n, found.without_copies.exact, found.without_copies.near) == (19, 1, 0)
    assert world.run.scores["val"].without_copies is None


def test_near_copies_are_not_searched_among_grey_images_and_that_is_said(grey_world):
    found = evaluate(grey_world.run, copies=True)
    assert (found.without_copies.n, found.without_copies.exact, found.without_copies.near) == (17, 3, None)
    assert any("near copies were not searched" in note for note in found.notes)
    page = write_report(grey_world.run).read_text(encoding="utf-8")
    assert '<td class="n">3</td><td class="n">not searched</td>' in page
    assert "not searched among images of one channel" in page


def test_grey_training_images_are_found_in_a_set_that_holds_them_as_rgb(grey_world):
    arrays = {key: np.repeat(a, 3, axis=1) if key[0] == "x" else a for key, a in grey_world.arrays.items()}
    np.savez(grey_world.folder / "colour.npz", **arrays)
    assert evaluate(grey_world.run, data=grey_world.folder / "colour.npz", copies=True).without_copies.exact == 3
    notes = evaluate(grey_world.run, data=grey_world.folder / "colour.npz").notes
    assert any(note.startswith("3 of 20 images are exact copies of training images") for note in notes)


def test_without_training_images_copies_are_refused_before_test_is_opened(world):
    np.savez(world.folder / "other.npz", **(world.arrays | {"x_test": scenes(20, 5)}))
    world.file.unlink()
    assert evaluate(world.run, data=world.folder / "other.npz").n == 20
    with pytest.raises(DataError, match=r"(?s)cannot be searched for: .*or score without `--copies`"):
        evaluate(world.run, data=world.folder / "other.npz", split="test", copies=True)
    assert world.run.log.test_openings == 0


def test_copies_of_training_images_among_themselves_are_refused(world):
    with pytest.raises(ConfigError, match="train has no copies of training images"):
        evaluate(world.run, split="train", copies=True)


def test_scores_of_another_set_without_copies_are_kept_nowhere(world):
    np.savez(world.folder / "other.npz", **(world.arrays | {"x_train": scenes(30, 7)}))
    assert evaluate(world.run, data=world.folder / "other.npz", split="train", copies=True).without_copies.n == 30
    assert set(world.run.scores) == {"val"}
    assert world.run.scores["val"].without_copies is None


def test_progress_counts_up_to_the_whole_search(world):
    reporter = Noting()
    evaluate(world.run, copies=True, report=reporter)
    assert reporter.seen["training images"][-1] == (30, 30)
    shown = [done for done, _ in reporter.seen["copies"]]
    assert shown == sorted(shown)
    assert reporter.seen["copies"][-1] == (30 + 2 * 20, 30 + 2 * 20)


def test_where_every_sample_is_a_copy_the_other_score_is_undefined():
    task = get_task("classify")
    predictions = {"probabilities": np.eye(3, dtype=np.float32)}
    targets = Targets(ids=list("abc"), labels=np.arange(3))
    copies = Copies(exact=np.array([True, False, True]), near=np.array([False, True, False]))
    scores = task.scores(predictions, targets, CLASSES)
    without = scores_without_copies(task, predictions, targets, CLASSES, copies, scores)
    assert (without.n, without.exact, without.near) == (0, 2, 1)
    assert all(math.isnan(score.value) for score in without.scores.values())
    assert to_json(without)["scores"]["accuracy"] == {"value": None, "low": None, "high": None}


def test_boxes_without_copies_are_scored_by_the_task_itself():
    # boxes: exact, exact, a quarter of the area (IoU 1/4), off; the first two samples are copies
    true = np.array([[0, 0, 8, 8]] * 4, np.float32)
    boxes = np.array([[0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 4, 4], [8, 8, 12, 12]], np.float32)
    predictions = {"probabilities": np.eye(3, dtype=np.float32)[[0, 1, 2, 1]], "boxes": boxes}
    targets = Targets(ids=list("abcd"), labels=np.array([0, 1, 2, 0]), boxes=true, image_size=(16, 16))
    task, copies = get_task("localize"), Copies(exact=np.array([True, False, False, False]), near=np.arange(4) == 1)
    scores = task.scores(predictions, targets, CLASSES)
    without = scores_without_copies(task, predictions, targets, CLASSES, copies, scores)
    assert {key: scores[key].value for key in ("accuracy", "mean_iou", "joint_accuracy")} == pytest.approx(
        {"accuracy": 0.75, "mean_iou": 2.25 / 4, "joint_accuracy": 0.5}
    )
    assert {key: without.scores[key].value for key in ("accuracy", "mean_iou", "joint_accuracy")} == pytest.approx(
        {"accuracy": 0.5, "mean_iou": 0.125, "joint_accuracy": 0.0}
    )


def test_masks_without_copies_are_scored_by_the_task_itself():
    # 3 masks of 4 pixels: the copy is wholly right, the others have 2 and 1 right pixels
    truth = np.zeros((3, 2, 2), np.uint8)
    masks = np.array([[[0, 0], [0, 0]], [[0, 0], [1, 1]], [[0, 1], [1, 1]]], np.uint8)
    task, copies = get_task("segment"), Copies(exact=np.array([True, False, False]), near=None)
    predictions, targets = {"masks": masks}, Targets(ids=list("abc"), masks=truth)
    scores = task.scores(predictions, targets, ("background", "cat"))
    without = scores_without_copies(task, predictions, targets, ("background", "cat"), copies, scores)
    assert (without.n, without.exact, without.near) == (2, 1, None)
    assert scores["pixel_accuracy"].value == pytest.approx(7 / 12)
    assert without.scores["pixel_accuracy"].value == pytest.approx(3 / 8)


def test_a_near_copy_that_has_an_exact_one_too_counts_once(world):
    packed = pack(load(world.file), None)
    copies = find_copies(packed["val"], packed["train"])
    assert np.flatnonzero(copies.exact).tolist() == list(EXACT)
    assert np.flatnonzero(copies.near).tolist() == list(NEAR)
    assert len(copies.others) == NUM_SCORED - len(EXACT) - len(NEAR)


def test_the_command_line_shows_both_in_json_and_in_the_table(world, capsys):
    assert main(["evaluate", str(world.run.path), "--copies", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    without = document["without_copies"]
    assert {key: without[key] for key in ("n", "exact", "near")} == {"n": 15, "exact": 3, "near": 2}
    assert document["scores"]["accuracy"]["value"] == pytest.approx(0.75)
    assert without["scores"]["accuracy"]["value"] == pytest.approx(0.6667, abs=1e-4)
    assert main(["evaluate", str(world.run.path), "--copies"]) == 0
    out = capsys.readouterr().out
    (accuracy,) = [line for line in out.splitlines() if " Accuracy " in line]
    assert "0.7500" in accuracy
    assert "0.6667" in accuracy
    assert "3 have an exact copy among the training images, 2 more a near copy" in " ".join(out.split())


def test_the_report_shows_both_once_copies_were_looked_for(world, capsys):
    page = write_report(world.run)
    assert "without copies" not in page.read_text(encoding="utf-8").lower()
    assert main(["evaluate", str(world.run.path), "--copies", "--quiet"]) == 0
    words = re.sub(r"(<[^>]*>|\s)+", " ", page.read_text(encoding="utf-8"))
    assert "val Accuracy 75.0 % 53.1 % – 88.8 % 20 images 66.7 % 41.7 % – 84.8 % 15 images 3 2 " in words
    assert "All 20 images Without copies: 15 images Accuracy 75.0 % 53.1 % – 88.8 % 66.7 % 41.7 % – 84.8 %" in words
