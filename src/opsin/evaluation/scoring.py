"""From predictions and targets to scores with intervals: the same for training's end and for a later evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opsin.tasks.base import Arrays, Targets, Task
from opsin.types import Score


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
            "fitted": {key: _plain(value) for key, value in self.fitted.items()},
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


def scores_to_json(scores: Mapping[str, Score]) -> dict[str, dict[str, float | None]]:
    """Scores as plain JSON: value, low and high of each; None for undefined."""
    return {
        name: {"value": _plain(score.value), "low": _plain(score.low), "high": _plain(score.high)}
        for name, score in scores.items()
    }


def scores_from_json(entry: Mapping[str, Mapping[str, float | None]]) -> dict[str, Score]:
    """The inverse of `scores_to_json`: None becomes NaN."""
    return {name: Score(*(_number(values[key]) for key in ("value", "low", "high"))) for name, values in entry.items()}


def fitted_from_json(entry: Mapping[str, float | None]) -> dict[str, float]:
    """What was fitted on val, from scores.json: None becomes NaN."""
    return {key: _number(value) for key, value in entry.items()}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
