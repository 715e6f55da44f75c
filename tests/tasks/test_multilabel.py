"""Multi-label classification: loss, scores, thresholds, readers, and a run through all verbs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

import opsin
from opsin.artifact import load
from opsin.batches.batch import Batch
from opsin.comparison.comparison import compare_runs
from opsin.config import DataConfig
from opsin.data.load import load as load_data
from opsin.data.made.digit_tags import read_digit_tags
from opsin.errors import DataError
from opsin.inference.predictor import Predictor
from opsin.io.images import encode_png
from opsin.models.wrappers.views import Views
from opsin.tasks import Targets, get_task
from opsin.tasks.multilabel import scores
from opsin.tasks.multilabel.scores import histogram_parts, thresholds_of
from opsin.tasks.multilabel.task import TAGS, Multilabel

TASK = get_task("multilabel")
CLASSES = ("cat", "dog", "tree")


def predictions_and_tags(count: int = 200, num_classes: int = 3) -> tuple[dict[str, np.ndarray], Targets]:
    generator = np.random.default_rng(0)
    tags = (generator.random((count, num_classes)) < 0.4).astype(np.uint8)
    probabilities = (0.4 * tags + 0.6 * generator.random((count, num_classes))).astype(np.float32)
    return {"probabilities": probabilities}, Targets(ids=[f"{i}" for i in range(count)], tags=tags)


def write_images(folder: Path, names: list[str]) -> None:
    for k, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(np.full((3, 8, 8), 10 * k, np.uint8)))


def test_the_loss_is_binary_cross_entropy_by_hand():
    batch = Batch(images=torch.zeros(1, 1, 2, 2), index=torch.zeros(1, dtype=torch.int64), tags=torch.tensor([[1, 0]]))
    outputs = {"logits": torch.tensor([[0.0, 2.0]])}
    expected = (np.log(2) + np.log1p(np.exp(2.0))) / 2
    assert TASK.loss(outputs, batch)["loss"].item() == pytest.approx(expected, abs=1e-6)
    smooth = Multilabel(label_smoothing=0.2).loss(outputs, batch)["loss"].item()
    assert smooth == pytest.approx((np.log(2) + 0.9 * np.log1p(np.exp(2)) + 0.1 * np.log1p(np.exp(-2))) / 2, abs=1e-6)


def test_scores_are_those_of_scikit_learn():
    predictions, targets = predictions_and_tags()
    fitted = TASK.fit(predictions, targets)
    found = TASK.assess(predictions, targets, CLASSES, fitted=fitted)
    probabilities, tags = predictions["probabilities"], np.asarray(targets.tags)
    called = probabilities >= thresholds_of(fitted, 3)
    expected = {
        "mean_average_precision": average_precision_score(tags, probabilities, average="macro"),
        "micro_average_precision": average_precision_score(tags, probabilities, average="micro"),
        "macro_f1": f1_score(tags, called, average="macro"),
        "micro_f1": f1_score(tags, called, average="micro"),
        "exact_match": (called == tags).all(1).mean(),
    }
    for name, value in expected.items():
        score = found.scores[name]
        assert score.value == pytest.approx(value)
        assert score.low < score.value < score.high
    assert set(found.scores) == set(TASK.score_kinds)
    json.dumps(found.details, allow_nan=False)


def test_a_class_that_val_lacks_is_called_from_one_half_on():
    predictions, targets = predictions_and_tags()
    none = Targets(ids=targets.ids, tags=np.asarray(targets.tags) * np.array([1, 0, 1], np.uint8))
    fitted = TASK.fit(predictions, none)
    assert np.isnan(fitted["threshold_1"])
    assert thresholds_of(fitted, 3)[1] == 0.5
    assert "dog" in TASK.assess(predictions, none, CLASSES).details["absent_classes"]


def test_runs_are_compared_by_the_score_itself_of_resampled_samples_too():
    predictions, targets = predictions_and_tags(300)
    probabilities, tags = predictions["probabilities"], np.asarray(targets.tags)
    parts, of_sums = histogram_parts(probabilities, tags > 0)
    weights = np.random.default_rng(1).integers(0, 3, (4, 300)).astype(float)
    expected = [average_precision_score(tags, probabilities, average="macro", sample_weight=row) for row in weights]
    assert of_sums(weights @ parts).tolist() == pytest.approx(expected)


def test_fewer_steps_than_samples_come_near_the_score(monkeypatch):
    monkeypatch.setattr(scores, "MOST_SUMS", 0)
    predictions, targets = predictions_and_tags(300)
    parts, of_sums = histogram_parts(predictions["probabilities"], np.asarray(targets.tags) > 0)
    assert parts.shape == (300, 2 * 3 * scores.FEWEST_STEPS)
    exact = TASK.scores(predictions, targets, CLASSES, intervals=False)["mean_average_precision"].value
    assert of_sums(parts.sum(axis=0, keepdims=True))[0] == pytest.approx(exact, abs=0.05)


def test_views_average_the_probability_of_each_class_by_itself():
    class Echo(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": images[:, 0, :, 0]}

    images = torch.tensor([[[[0.0, 2.0], [1.0, -1.0]]]])
    found = Views(Echo(), ("flip",), TAGS)(images)["logits"].sigmoid()
    expected = (images[:, 0, :, 0].sigmoid() + images[:, 0, :, 1].sigmoid()) / 2
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_table_whose_labels_have_several_names_is_read_so(tmp_path: Path):
    write_images(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "t.csv").write_text("path,label\na.png,dog;cat\nb.png,\nc.png,tree\n")
    found = load_data(tmp_path / "t.csv", drawn=False)
    assert (found.task, found.classes) == ("multilabel", CLASSES)
    assert found.splits["test"].tags.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_a_table_with_one_name_a_row_names_classes_unless_tags_are_asked_for(tmp_path: Path):
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "t.csv").write_text("path,label\na.png,dog\nb.png,cat\n")
    assert load_data(tmp_path / "t.csv", drawn=False).task == "classify"
    assert load_data(tmp_path / "t.csv", drawn=False, task="multilabel").splits["test"].tags.tolist() == [
        [0, 1],
        [1, 0],
    ]


def test_an_image_in_several_folders_has_all_their_classes(tmp_path: Path):
    write_images(tmp_path, ["cat/1.png", "dog/2.png"])
    (tmp_path / "dog" / "1.png").write_bytes((tmp_path / "cat" / "1.png").read_bytes())
    found = load_data(tmp_path, drawn=False, task="multilabel")
    assert len(found.splits["test"]) == 2
    assert sorted(found.splits["test"].tags.tolist()) == [[0, 1], [1, 1]]


def test_coco_gives_the_categories_of_an_images_objects(tmp_path: Path):
    write_images(tmp_path, ["a.png", "b.png"])
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 7, "name": "dog"}, {"id": 9, "name": "cat"}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2]},
            {"image_id": 1, "category_id": 9, "bbox": [0, 0, 2, 2]},
            {"image_id": 2, "category_id": 7, "bbox": [0, 0, 2, 2]},
        ],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    found = load_data(tmp_path / "c.json", drawn=False, task="multilabel")
    assert found.classes == ("cat", "dog")
    assert found.splits["test"].tags.tolist() == [[1, 1], [0, 1]]


def test_arrays_of_tags_must_be_0_or_1():
    images = np.zeros((4, 8, 8), np.uint8)
    assert load_data({"images": images, "tags": np.eye(4)}, drawn=False).task == "multilabel"
    with pytest.raises(DataError, match="neither 0 nor 1"):
        load_data({"images": images, "tags": 2 * np.eye(4)}, drawn=False)


def test_made_scenes_hold_the_digits_that_their_tags_say_and_repeat():
    config = DataConfig(scenes=50)
    first, again = (read_digit_tags(None, config).splits["train"] for _ in range(2))
    assert first.content == again.content
    assert 1 <= first.tags.sum(axis=1).min() <= first.tags.sum(axis=1).max() == 4
    assert first.images.shape == (50, 1, 64, 64)


def test_a_run_goes_through_all_verbs(tmp_path: Path):
    kept = {"epochs": 1, "scenes": 120, "preflight": False, "threads": 1, "quiet": True, "out": tmp_path}
    run = opsin.train("digit_tags", name="a", open_test=True, **kept)
    other = opsin.train("digit_tags", name="b", open_test=True, report=False, label_smoothing=0.1, **kept)
    artifact = load(run.model_folder)
    fitted = run.scores["val"].fitted
    assert artifact.meta["fitted"] == fitted
    found = opsin.evaluate(run, split="test", tta=("flip",))
    assert found.scores["macro_f1"].value == pytest.approx(run.scores["test"]["macro_f1"].value)
    (tmp_path / "one.png").write_bytes(encode_png(np.zeros((3, 64, 64), np.uint8)))
    (said,) = Predictor(artifact).files([tmp_path / "one.png"])
    called = np.array(said.shares) >= thresholds_of(fitted, 10)
    assert said.label == (", ".join(str(k) for k in np.flatnonzero(called)) or "nothing")
    assert "Worst predictions" in (run.path / "report.html").read_text()
    compared = compare_runs([run, other])
    assert compared.score == "mean_average_precision"
