"""Scores of a split for regression, with intervals, and the details of its report.

Shapes: N samples, M numbers, r resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opsin.ops.intervals import Floats, bootstrap, percentile_interval
from opsin.ops.scores import class_mean
from opsin.tasks.base import Parts
from opsin.types import JsonDict, Score, plain_score

NAMES = ("r2", "mae", "rmse", "loss")
NUM_MISTAKES = 48
NUM_POINTS = 500
"""Number of samples in a figure of truth against prediction."""


def r2_of_sums(sums: Floats) -> Floats:
    """R² of each number, float64 [r, M]; NaN where the truth does not vary.

    Args:
        sums: float64 [r, 4, M]: samples, truth, truth squared, error squared.

    Source: scikit-learn's `r2_score`.
    """
    count, true, squared, errors = np.moveaxis(sums, 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = squared - true**2 / count
        return np.where(spread > 1e-12 * np.abs(squared), 1 - errors / spread, np.nan)


def rows_of_sums(predicted: Floats, truth: Floats) -> Floats:
    """Per-sample terms of the sums of `r2_of_sums`: float64 [N, 4, M]; the truth minus its mean, for precision."""
    centred = truth - truth.mean(axis=0)
    return np.stack([np.ones_like(truth), centred, centred**2, (predicted - truth) ** 2], axis=1)


def number_scores(
    predicted: NDArray[np.floating],
    truth: NDArray[np.floating],
    deviations: Floats | None,
    *,
    intervals: bool = True,
) -> dict[str, Score]:
    """Every score of a split, with the bootstrap's 95 % intervals if asked.

    Args:
        predicted: floating [N, M].
        truth: floating [N, M].
        deviations: standard deviations of the training samples [M], which scale the loss; None means those of these
            samples.
        intervals: without them they are NaN.
    """
    said, true = predicted.astype(np.float64), truth.astype(np.float64)
    scale = true.std(axis=0) if deviations is None else deviations
    parts, errors = rows_of_sums(said, true), said - true
    losses = ((errors / np.where(scale > 0, scale, 1)) ** 2).mean(axis=1)

    def summary(weights: Floats) -> Floats:
        count = weights.sum(axis=1)
        columns = (
            class_mean(r2_of_sums(np.tensordot(weights, parts, 1))),
            (weights @ np.abs(errors) / count[:, None]).mean(axis=1),
            np.sqrt(weights @ errors**2 / count[:, None]).mean(axis=1),
            weights @ losses / count,
        )
        return np.stack(columns, axis=1)

    values = summary(np.ones((1, len(true))))[0]
    if not intervals:
        return dict(zip(NAMES, map(Score, values.tolist()), strict=True))
    low, high = percentile_interval(bootstrap(summary, len(true)))
    return {name: Score(*map(float, row)) for name, *row in zip(NAMES, values, low, high, strict=True)}


def r2_parts(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> Parts:
    """Sums that determine the mean R², and the function from sums [r, 4 M] to it [r]."""
    rows = rows_of_sums(predicted.astype(np.float64), truth.astype(np.float64))

    def mean_r2(sums: Floats) -> Floats:
        return class_mean(r2_of_sums(sums.reshape(len(sums), 4, -1)))

    return rows.reshape(len(rows), -1), mean_r2


def number_details(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], names: Sequence[str], ids: Sequence[str]
) -> JsonDict:
    """Details of the report, as plain JSON; None for undefined.

    Args:
        predicted: floating [N, M].
        truth: floating [N, M].
        names: names of the M numbers.
        ids: N names.
    """
    spread = truth.std(axis=0)
    errors = (predicted - truth) / np.where(spread > 0, spread, 1)
    worst = np.argsort(-(errors**2).mean(axis=1), kind="stable")[:NUM_MISTAKES]
    shown = np.linspace(0, len(truth) - 1, min(NUM_POINTS, len(truth))).astype(np.int64)
    return {
        "per_number": [
            {"name": str(name), "mean": float(truth[:, k].mean()), "deviation": float(spread[k])}
            | {
                key: plain_score(score)
                for key, score in number_scores(predicted[:, [k]], truth[:, [k]], None).items()
                if key != "loss"
            }
            | {"truth": truth[shown, k].astype(float).tolist(), "predicted": predicted[shown, k].astype(float).tolist()}
            for k, name in enumerate(names)
        ],
        "chance": {"value": 0.0, "by": "always the mean"},
        "mistakes": [
            {
                "index": int(i),
                "id": str(ids[i]),
                "truth": in_words(truth[i], names),
                "predicted": in_words(predicted[i], names),
                "error": float(np.abs(errors[i]).mean()),
            }
            for i in worst
        ],
    }


def in_words(values: NDArray[np.floating], names: Sequence[str]) -> str:
    """Numbers as one line.

    >>> in_words(np.array([3.14159, 20.0]), ("length", "width"))
    'length 3.142, width 20'
    """
    return ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values.tolist(), strict=True))
