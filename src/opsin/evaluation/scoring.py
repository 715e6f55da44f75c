"""From predictions and targets to scores with intervals: the same for training's end and for a later evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opsin.evaluation.copies import Copies
from opsin.models.wrappers.views import ViewName
from opsin.tasks.base import Arrays, Targets, Task
from opsin.types import Score, number_of, plain_number, scores_to_json


@dataclass(frozen=True, kw_only=True)
class WithoutCopies:
    """Scores of the samples that have no copy among the training images.

    `n`: those samples. `exact`: how many others have an equal training image. `near`: how many further ones have one
    that shows the same shot; None where near copies were not searched.
    """

    n: int
    exact: int
    near: int | None
    scores: Mapping[str, Score]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; None for undefined."""
        return {"n": self.n, "exact": self.exact, "near": self.near, "scores": scores_to_json(self.scores)}


@dataclass(frozen=True, kw_only=True)
class AugmentedScores:
    """Scores with test-time augmentation: `views` are the kinds of views that were averaged with the image's own."""

    views: tuple[ViewName, ...]
    scores: Mapping[str, Score]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; None for undefined."""
        return {"views": list(self.views), "scores": scores_to_json(self.scores)}


@dataclass(frozen=True, kw_only=True)
class SplitScores:
    """Scores of one split.

    `n`: samples. `details`: plain JSON for the report. `fitted`: what was fitted on val (NaN: nothing was best).
    `without_copies`: scores without copies of training images; None where they were not looked for. `tta`: scores
    with test-time augmentation; None where it was not asked for.
    """

    n: int
    scores: Mapping[str, Score]
    details: Mapping[str, Any]
    fitted: Mapping[str, float]
    without_copies: WithoutCopies | None = None
    tta: AugmentedScores | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry of scores.json; None for undefined."""
        plain = {
            "n": self.n,
            "scores": scores_to_json(self.scores),
            "details": dict(self.details),
            "fitted": {key: plain_number(value) for key, value in self.fitted.items()},
        }
        return plain | self.extras_to_json()

    def extras_to_json(self) -> dict[str, Any]:
        """What was asked for beside the scores, as the entry of scores.json has it."""
        extras = {"without_copies": self.without_copies, "tta": self.tta}
        return {name: found.to_json() for name, found in extras.items() if found is not None}


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
    found = task.assess(predictions, targets, classes, fitted=fitted)
    return SplitScores(n=len(targets), scores=found.scores, details=found.details, fitted=fitted)


def scores_without_copies(
    task: Task,
    predictions: Arrays,
    targets: Targets,
    classes: Sequence[str],
    copies: Copies,
    scores: Mapping[str, Score],
) -> WithoutCopies:
    """Score again, without the samples that were trained on.

    Args:
        task: whose scores.
        predictions: arrays of N rows.
        targets: N targets.
        classes: K names.
        copies: which of the N samples are copies.
        scores: those of all N samples; where all are copies, each of them is undefined.

    Raises:
        DataError: predictions and targets do not match, or are out of range.
    """
    rows = copies.others
    if len(rows) == len(targets):
        kept = scores
    elif len(rows):
        kept = task.scores({key: array[rows] for key, array in predictions.items()}, targets.take(rows), classes)
    else:
        kept = dict.fromkeys(scores, Score(math.nan))
    near = None if copies.near is None else int(copies.near.sum())
    return WithoutCopies(n=len(rows), exact=int(copies.exact.sum()), near=near, scores=kept)


def fitted_from_json(entry: Mapping[str, float | None]) -> dict[str, float]:
    """What was fitted on val, from scores.json: None becomes NaN."""
    return {key: number_of(value) for key, value in entry.items()}
