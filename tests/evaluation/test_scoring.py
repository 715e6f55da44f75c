"""From predictions to scores.json and back."""

from __future__ import annotations

import json
import math

import numpy as np

from opsin.evaluation.scoring import evaluate_predictions
from opsin.runs import SplitScores
from opsin.runs.codec import from_json, to_json
from opsin.tasks import Targets, get_task
from opsin.types import scores_from_json

CLASSES = ("a", "b", "c")


def case(seed=0, num_samples=80):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([0.5] * 3, num_samples).astype(np.float32)
    labels = generator.integers(0, 2, num_samples)  # "c" does not occur
    return {"probabilities": probabilities}, Targets(ids=[str(i) for i in range(num_samples)], labels=labels)


def test_scores_survive_json_with_undefined_ones():
    found = evaluate_predictions(get_task("classify"), *case(), CLASSES)
    entry = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert entry["n"] == found.n == 80
    assert scores_from_json(entry["scores"]) == dict(found.scores)
    assert from_json(SplitScores, entry, "val").fitted == found.fitted
    undefined = from_json(SplitScores, entry | {"fitted": {"temperature": None}}, "val")
    assert math.isnan(undefined.fitted["temperature"])


def test_val_fits_its_temperature_and_other_splits_take_it_over():
    task = get_task("classify")
    val = evaluate_predictions(task, *case(0), CLASSES)
    test = evaluate_predictions(task, *case(1), CLASSES, fitted=val.fitted)
    assert val.fitted == task.fit(*case(0))
    assert test.details["temperature"] == val.details["temperature"]
