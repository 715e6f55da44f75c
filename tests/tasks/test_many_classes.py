"""Sets of more classes than a confusion matrix has room for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.ops import calibration
from opsin.ops import scores as formulas
from opsin.report.figures import most_confused
from opsin.tasks import Targets, get_task
from opsin.tasks.classify import scores as classify_scores

NUM_CLASSES, NUM_SAMPLES = 12, 150


def predictions() -> tuple[dict[str, np.ndarray], Targets, tuple[str, ...]]:
    draws = np.random.default_rng(0)
    labels = draws.integers(0, NUM_CLASSES - 3, NUM_SAMPLES)  # three classes do not occur, and are predicted at times
    logits = draws.normal(size=(NUM_SAMPLES, NUM_CLASSES))
    logits[np.arange(NUM_SAMPLES), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = Targets(ids=[f"s{i}" for i in range(NUM_SAMPLES)], labels=labels)
    return {"probabilities": probabilities.astype(np.float32)}, targets, tuple(f"c{k}" for k in range(NUM_CLASSES))


def test_counting_the_classes_that_occur_and_working_in_blocks_gives_the_same_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = get_task("classify")
    whole = task.assess(*predictions())
    monkeypatch.setattr(classify_scores, "MANY_CLASSES", 5)
    monkeypatch.setattr(formulas, "BLOCK_ELEMENTS", 7 * NUM_CLASSES)
    many = task.assess(*predictions())
    assert many.scores.keys() == whole.scores.keys()
    for name, score in whole.scores.items():
        assert many.scores[name] == pytest.approx(score, abs=1e-12), name
    assert "confusion" not in many.details
    labels, classes = predictions()[1].labels, predictions()[2]
    most = np.argsort(-np.bincount(labels), kind="stable")[:5]
    by_class = {row["class"]: row for row in whole.details["per_class"]}
    assert {row["class"] for row in many.details["per_class"]} == {classes[k] for k in most}
    for row in many.details["per_class"]:
        assert row["f1"]["value"] == pytest.approx(by_class[row["class"]]["f1"]["value"])
    pairs = most_confused(np.array(whole.details["confusion"]), classify_scores.NUM_PAIRS)
    told = [(row["truth"], row["predicted"], row["images"]) for row in many.details["confused"]]
    assert told == [(classes[i], classes[j], count) for i, j, count, _ in pairs]
    assert many.details["wrong"] == len(labels) - np.trace(np.array(whole.details["confusion"]))


def test_a_temperature_of_evenly_spread_samples_is_near_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, labels = predictions()[0]["probabilities"], predictions()[1].labels
    whole = calibration.fit_temperature(probabilities, labels)
    monkeypatch.setattr(calibration, "MOST_FITTED", 75 * NUM_CLASSES)
    assert calibration.fit_temperature(probabilities, labels) == pytest.approx(whole, rel=0.3)


def test_a_set_of_more_classes_is_trained_scored_and_reported(tmp_path: Path) -> None:
    draws, count = np.random.default_rng(0), classify_scores.MANY_CLASSES + 100
    labels = np.repeat(np.arange(count), 2)
    images = draws.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)[labels]
    images[1::2] ^= 1  # not copies
    data = {"train_images": images, "train_labels": labels, "val_images": images[: 2 * count : 9] ^ 2}
    data |= {"val_labels": labels[: 2 * count : 9], "classes": [f"item {k}" for k in range(count)]}
    settings = {"model": "small", "filters": [4], "batch_size": 512, "epochs": 1, "threads": 1, "quiet": True}
    np.savez(tmp_path / "many.npz", **data)
    run = opsin.train(tmp_path / "many.npz", name="many", out=tmp_path, **settings)
    details = run.scores["val"].details
    assert details["images"] == len(data["val_labels"])
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Most confused" in page
    assert len(page) < 1_500_000
    evaluated = opsin.evaluate(run, folder=tmp_path / "evaluated")
    assert evaluated.n == details["images"]
    assert not (tmp_path / "evaluated" / "confusion.csv").exists()
