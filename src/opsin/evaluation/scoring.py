"""From predictions and targets to scores with intervals: the same for training's end and for a later evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opsin.tasks.base import Arrays, Targets, Task
from opsin.types import Score, number_of, plain_number, scores_to_json


@dataclass(frozen=True, kw_only=True)
class SplitScores:
    """Scores of one split.

    `n`: samples. `details`: plain JSON for the report. `fitted`: what was fitted on val (NaN: nothing was best).
    """

    n: int
    scores: Mapping[str, Score]
    details: Mapping[str, Any]
    fitted: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The entry of scores.json; None for undefined."""
        return {
            "n": self.n,
            "scores": scores_to_json(self.scores),
            "details": dict(self.details),
            "fitted": {key: plain_number(value) for key, value in self.fitted.items()},
        }


def evaluate_predictions(
    task: Task,
    predictions: Arrays,
    targets: Targets,
    classes: Sequence[str],
    *,
    fitted: Mapping[str, float] | None = None,
) -> SplitScores:
    """Score the predictions of a split.

    Args:
        task: whose scores.
        predictions: arrays of N rows, as `Predictor.samples` gives them.
        targets: N targets.
        classes: K names.
        fitted: what was fitted on val, for every split but val; None fits it to these predictions.

    Raises:
        DataError: predictions and targets do not match, or are out of range.
    """
    fitted = dict(task.fit(predictions, targets) if fitted is None else fitted)
    return SplitScores(
        n=len(targets),
        scores=task.scores(predictions, targets, classes),
        details=task.details(predictions, targets, classes, fitted=fitted),
        fitted=fitted,
    )


def fitted_from_json(entry: Mapping[str, float | None]) -> dict[str, float]:
    """What was fitted on val, from scores.json: None becomes NaN."""
    return {key: number_of(value) for key, value in entry.items()}
