"""What is said beside a score."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from opsin.score_notes import chance_words, lowest, notes_of, selection
from opsin.tasks import get_task
from opsin.tasks.targets import Targets
from opsin.types import Score

CHANCE = {"value": 0.11, "by": "always the most frequent class"}


def epochs(*values: float | None) -> list[tuple[int, dict[str, float]]]:
    return [(i, {"accuracy": np.nan if value is None else value}) for i, value in enumerate(values, 1)]


def test_the_last_epochs_score_stands_beside_that_of_the_best() -> None:
    found = selection(epochs(0.5, 0.9, 0.9, 0.7), "accuracy")
    assert found is not None
    assert (found.epochs, found.best_epoch, found.best) == (4, 3, 0.9)
    assert (found.last_epoch, found.last) == (4, 0.7)
    (note,) = notes_of({}, found, "accuracy", Score(0.9, 0.85, 0.94))
    assert "best of 4 epochs" in note
    assert "0.7000" in note


def test_where_there_was_nothing_to_choose_from_nothing_is_said() -> None:
    assert selection(epochs(0.5, None), "accuracy") is None
    assert selection([(1, {})], "accuracy") is None
    assert notes_of({}, None, "accuracy", Score(0.5)) == ()


def test_a_score_at_chance_is_called_so_and_one_above_is_not() -> None:
    assert (chance_words(Score(0.13, 0.09, 0.18), CHANCE) or "").startswith("not shown to be better than chance")
    assert (chance_words(Score(0.30, 0.24, 0.37), CHANCE) or "").startswith("always the most frequent class")
    assert chance_words(Score(0.3, 0.2, 0.4), None) is None


def test_the_best_of_many_epochs_must_lie_further_above_chance() -> None:
    score = Score(0.172, 0.124, 0.234)
    assert not (chance_words(score, CHANCE) or "").startswith("not shown")
    assert (chance_words(score, CHANCE, choices=20) or "").startswith("not shown")
    z = stats.norm.ppf(1 - 0.025 / 20) / stats.norm.ppf(0.975)
    assert lowest(score, 20) == pytest.approx(0.172 - z * 0.048)


def test_each_task_says_what_an_answer_scores_that_looks_at_no_image() -> None:
    labels = np.array([0, 0, 0, 1])
    ids = list("abcd")
    found = get_task("classify").assess(
        {"probabilities": np.eye(2)[labels]}, Targets(ids=ids, labels=labels), ["a", "b"]
    )
    assert found.details["chance"]["value"] == 0.75
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [20, 20, 24, 24]], np.float32)
    predictions = {"probabilities": np.eye(2)[labels], "boxes": boxes}
    targets = Targets(ids=ids, labels=labels, boxes=boxes)
    assert get_task("localize").assess(predictions, targets, ["a", "b"]).details["chance"]["value"] == 0.0
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[:, :2] = 1
    found = get_task("segment").assess(
        {"masks": masks, "uncertainty": masks}, Targets(ids=["a", "b"], masks=masks), ["background", "b"]
    )
    assert found.details["chance"]["value"] == pytest.approx(0.75 / 2)
