"""Scores of a split for multi-label classification, with intervals, and the details of its report.

Shapes: N samples, K classes, r resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from opsin.ops.average_precision import average_precision, best_threshold, class_average_precisions
from opsin.ops.intervals import Floats, bootstrap, jackknife_quantiles, percentile_interval, share_interval, wilson
from opsin.ops.scores import SMALLEST_PROBABILITY, class_mean
from opsin.tasks.base import Parts
from opsin.tasks.labels import share_score
from opsin.types import JsonDict, Score, plain_number, plain_score

Flags = NDArray[np.bool_]
HALF = 0.5
"""The threshold of a class without samples in val."""
NUM_MISTAKES = 48
FEWEST_STEPS = 16
MOST_SUMS = 8_000_000
"""Largest number of values of `histogram_parts`."""
NAMES = ("mean_average_precision", "micro_average_precision", "macro_f1", "micro_f1", "loss")
NUM_SHARES = 4


def threshold_key(k: int) -> str:
    """Key of the threshold of class `k` among the fitted values."""
    return f"threshold_{k}"


def fitted_thresholds(probabilities: NDArray[np.floating], truth: Flags) -> dict[str, float]:
    """The threshold of each class at which its F1 is best, by name; NaN for a class without a sample."""
    return {threshold_key(k): best_threshold(probabilities[:, k], truth[:, k]) for k in range(probabilities.shape[1])}


def thresholds_of(fitted: Mapping[str, float | None], num_classes: int) -> Floats:
    """Thresholds [K] from the values fitted on val; one half where there are none."""
    known = (fitted.get(threshold_key(k)) for k in range(num_classes))
    return np.array([HALF if value is None or np.isnan(value) else value for value in known], np.float64)


def sample_losses(probabilities: NDArray[np.floating], truth: Flags) -> Floats:
    """Mean binary cross-entropy of each sample over its classes: float64 [N]."""
    own = np.where(truth, probabilities, 1 - probabilities).astype(np.float64)
    losses: Floats = -np.log(np.maximum(own, SMALLEST_PROBABILITY)).mean(axis=1)
    return losses


def f1_of(called: Floats, there: Floats, hits: Floats) -> Floats:
    """F1 from counts of any shape: predicted, true, both; NaN if neither predicted nor true."""
    with np.errstate(invalid="ignore", divide="ignore"):
        f1: Floats = np.where(called + there > 0, 2 * hits / (called + there), np.nan)
    return f1


def tag_scores(
    probabilities: NDArray[np.floating], truth: Flags, thresholds: Floats, *, intervals: bool = True
) -> dict[str, Score]:
    """Every score of a split, with 95 % intervals if asked.

    Args:
        probabilities: floating [N, K].
        truth: bool [N, K].
        thresholds: float64 [K].
        intervals: without them they are NaN.
    """
    called, losses, num_samples = probabilities >= thresholds, sample_losses(probabilities, truth), len(truth)

    pairs = np.repeat(np.arange(num_samples), truth.shape[1])

    def summary(weights: Floats) -> Floats:
        hits, said, true = (weights @ flags.astype(np.float64) for flags in (called & truth, called, truth))
        columns = (
            class_mean(class_average_precisions(probabilities, truth, weights)),
            average_precision(probabilities.ravel(), truth.ravel(), weights, samples=pairs),
            class_mean(f1_of(said, true, hits)),
            f1_of(said.sum(1), true.sum(1), hits.sum(1)),
            weights @ losses / weights.sum(axis=1),
        )
        return np.stack(columns, axis=1)

    exact = int((called == truth).all(axis=1).sum())
    values = summary(np.ones((1, num_samples)))[0]
    found = dict(zip(NAMES, map(Score, values.tolist()), strict=True))
    if intervals:
        resampled = bootstrap(summary, num_samples)
        quantiles = jackknife_quantiles(summary, num_samples)
        low, high = share_interval(values, resampled, num_samples, num_samples=num_samples, quantile=quantiles)
        low[NUM_SHARES:], high[NUM_SHARES:] = percentile_interval(resampled[:, NUM_SHARES:])
        found = {n: Score(*map(float, row)) for n, *row in zip(NAMES, values, low, high, strict=True)}
    return found | {"exact_match": share_score(exact, num_samples, intervals=intervals), "loss": found["loss"]}


def tag_details(
    probabilities: NDArray[np.floating],
    truth: Flags,
    thresholds: Floats,
    classes: Sequence[str],
    ids: Sequence[str],
) -> JsonDict:
    """Details of the report, as plain JSON; None for undefined.

    Args:
        probabilities: floating [N, K].
        truth: bool [N, K].
        thresholds: float64 [K].
        classes: K names.
        ids: N names.
    """
    called, losses = probabilities >= thresholds, sample_losses(probabilities, truth)
    wrong = np.flatnonzero((called != truth).any(axis=1))
    worst = wrong[np.argsort(-losses[wrong], kind="stable")][:NUM_MISTAKES]
    return {
        "per_class": _per_class(probabilities, truth, thresholds, classes),
        "absent_classes": [str(classes[int(k)]) for k in np.flatnonzero(~truth.any(axis=0))],
        "chance": chance(truth),
        "mistakes": [
            {
                "index": int(i),
                "id": str(ids[i]),
                "truth": names_of(truth[i], classes),
                "predicted": names_of(called[i], classes),
                "missed": names_of(truth[i] & ~called[i], classes),
                "invented": names_of(called[i] & ~truth[i], classes),
                "confidence": float(np.where(called[i], probabilities[i], 1 - probabilities[i]).mean()),
            }
            for i in worst
        ],
    }


def names_of(flags: Flags, classes: Sequence[str]) -> str:
    """The names of classes whose flag [K] is set.

    >>> names_of(np.array([True, False, True]), ("cat", "dog", "tree"))
    'cat, tree'
    """
    return ", ".join(str(classes[int(k)]) for k in np.flatnonzero(flags)) or "nothing"


def chance(truth: Flags) -> JsonDict:
    """The mean average precision of a random order: the mean share of images with a class."""
    shares = truth.mean(axis=0)
    return {"value": plain_number(float(np.mean(shares[shares > 0])) if shares.any() else np.nan), "by": "random order"}


def _per_class(
    probabilities: NDArray[np.floating], truth: Flags, thresholds: Floats, classes: Sequence[str]
) -> list[JsonDict]:
    called = probabilities >= thresholds
    hits, said, true = ((called & truth).sum(0), called.sum(0), truth.sum(0))
    precision = np.where(said > 0, hits / np.maximum(said, 1), np.where(true > 0, 0.0, np.nan))
    recall = np.where(true > 0, hits / np.maximum(true, 1), np.nan)

    def summary(weights: Floats) -> Floats:
        counts = (weights @ flags.astype(np.float64) for flags in (called, truth, called & truth))
        return np.concatenate([class_average_precisions(probabilities, truth, weights), f1_of(*counts)], axis=1)

    values = summary(np.ones((1, len(truth))))[0]
    ends = share_interval(values, bootstrap(summary, len(truth)), np.tile(true, 2), num_samples=len(truth))
    area, f1 = np.stack([values, *ends]).reshape(3, 2, -1).transpose(1, 0, 2)
    columns: dict[str, Sequence[Floats]] = {
        "average_precision": list(area),
        "precision": (precision, *wilson(hits, np.where(true > 0, said, 0))),
        "recall": (recall, *wilson(hits, true)),
        "f1": list(f1),
    }
    return [
        {"class": str(name), "support": int(true[k]), "threshold": float(thresholds[k])}
        | {key: plain_score(Score(*(float(part[k]) for part in column))) for key, column in columns.items()}
        for k, name in enumerate(classes)
    ]


def histogram_parts(probabilities: NDArray[np.floating], truth: Flags) -> Parts:
    """Sums that determine the mean average precision: counts of samples at each step of each class's ranking.

    Ranks are not sums over samples; counts of samples between successive positive samples are. A step
    ends at a positive sample, so the score is exact if a class has no more positive samples than steps (S,
    fewer for many samples and classes). Otherwise a step contains several, and the score differs from the exact one by
    up to 0.03 with 16 steps, 0.004 with 128 (20 rankings of 5,000 samples). Runs are aligned by rank, not by
    probability: their order is compared, not their calibration.

    Returns:
        float64 [N, 2 K S], and the function from sums [r, 2 K S] to scores [r].
    """
    num_samples, num_classes = truth.shape
    largest = int(truth.sum(axis=0).max(initial=0)) + 1
    steps = min(largest, max(FEWEST_STEPS, MOST_SUMS // max(1, 2 * num_samples * num_classes)))
    rows = np.zeros((num_samples, 2, num_classes, steps))
    everyone = np.arange(num_samples)
    for k in range(num_classes):
        step = _steps(probabilities[:, k], truth[:, k], steps)
        rows[everyone, truth[:, k].astype(np.int64), k, step] = 1

    def mean_average_precision(sums: Floats) -> Floats:
        counts = sums.reshape(-1, 2, num_classes, steps)
        hits = np.cumsum(counts[:, 1], axis=-1)
        called = np.cumsum(counts.sum(axis=1), axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(called > 0, hits / called, 0)
            area = (counts[:, 1] * precision).sum(axis=-1) / hits[..., -1]
        return class_mean(area)

    return rows.reshape(num_samples, -1), mean_average_precision


def _steps(scores: NDArray[np.floating], there: Flags, count: int) -> NDArray[np.int64]:
    """The step of each sample, int64 [N], 0 for the highest scores: steps end at positive samples."""
    own = np.sort(scores[there])[::-1]
    ends = np.unique(np.linspace(0, max(len(own) - 1, 0), min(count - 1, len(own))).round().astype(np.int64))
    return np.searchsorted(-own[ends], -scores, side="left")
