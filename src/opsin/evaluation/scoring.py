"""From predictions and targets to scores with intervals: shared by training and evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from opsin.arrays import Arrays
from opsin.evaluation.copies import Copies
from opsin.runs import SplitScores, WithoutCopies
from opsin.tasks.base import Task
from opsin.tasks.targets import Targets
from opsin.types import Score


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
        task: the task.
        predictions: arrays of N rows, as `Predictor.samples` gives them.
        targets: N targets.
        classes: K names.
        fitted: values fitted on val, for other splits; None fits them to these predictions.

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
    """Score again, without the samples that have copies in train.

    Args:
        task: the task.
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
