"""Average precision: how well scores rank the samples that have something above those that have not.

Shapes: N samples, K classes, r resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_NUMBERS = 1 << 22
"""Weights that are sorted at once."""


def average_precision(
    scores: NDArray[np.floating],
    truth: NDArray[np.bool_],
    weights: Floats | None = None,
    *,
    samples: NDArray[np.int64] | None = None,
) -> Floats:
    """The mean of precision over the recall that each new threshold adds; samples of equal score are added at once.

    Args:
        scores: [M], higher for what is likelier there.
        truth: bool [M].
        weights: float64 [r, N], how often each sample counts; once where None.
        samples: int64 [M], which of N samples each score belongs to; M = N and each its own where None.

    Returns:
        float64 [r], 0 to 1; NaN where nothing is there.

    >>> average_precision(np.array([0.9, 0.8, 0.3]), np.array([True, False, True])).round(3).tolist()
    [0.833]

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", section 8.4; without interpolation, as
    scikit-learn's `average_precision_score`.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    if not truth.any():
        return np.full(len(weights), np.nan)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    columns = order if samples is None else samples[order]
    rows = max(1, MOST_NUMBERS // len(order))
    blocks = [weights[start : start + rows][:, columns] for start in range(0, len(weights), rows)]
    return np.concatenate([_areas(block, truth[order], ends) for block in blocks])


def _areas(weights: Floats, truth: NDArray[np.bool_], ends: NDArray[np.int64]) -> Floats:
    """Average precision [r] of weights [r, M] and truth [M], highest score first; groups of equal score have `ends`."""
    hits = np.cumsum(weights * truth, axis=1)[:, ends]
    called = np.cumsum(weights, axis=1)[:, ends]
    gained = np.diff(hits, prepend=0.0, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (gained * np.where(called > 0, hits / called, 0)).sum(axis=1)
        precision: Floats = np.where(hits[:, -1] > 0, area / hits[:, -1], np.nan)
    return precision


def class_average_precisions(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], weights: Floats | None = None
) -> Floats:
    """Average precision of each class, float64 [r, K], of scores [N, K] and truth bool [N, K]."""
    columns = [average_precision(scores[:, k], truth[:, k], weights) for k in range(scores.shape[1])]
    return np.stack(columns, axis=1)


def best_threshold(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """The threshold at which calling scores from it on has the best F1; midway to the next lower score.

    Returns:
        0 to 1; NaN where there is nothing to find. Of equals the highest.

    >>> best_threshold(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, False, False]))
    0.55

    Source: Lipton, Elkan, Narayanaswamy 2014, arXiv 1402.1892: the threshold of F1 is to be searched, and is not 1/2.
    """
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    hits = np.cumsum(truth[order])[ends]
    f1 = 2 * hits / (ends + 1 + truth.sum())
    best = int(np.argmax(f1))
    lower = ranked[ends[best] + 1] if ends[best] + 1 < len(ranked) else 0.0
    return float((ranked[ends[best]] + lower) / 2)
