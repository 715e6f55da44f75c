"""Average precision: how well scores rank the samples that have something above those that have not.

Shapes: N samples, K classes, r resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    """The mean of precision over the recall that each new threshold adds; samples of equal score are added at once.

    Args:
        scores: [N], higher for what is likelier there.
        truth: bool [N].
        weights: float64 [r, N], how often each sample counts; once where None.

    Returns:
        float64 [r], 0 to 1; NaN where nothing is there.

    >>> average_precision(np.array([0.9, 0.8, 0.3]), np.array([True, False, True])).round(3).tolist()
    [0.833]

    Source: Manning, Raghavan, Schütze, "Introduction to Information Retrieval", section 8.4; without interpolation, as
    scikit-learn's `average_precision_score`.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) if len(order) else order
    counted = np.ones((1, len(order))) if weights is None else weights[:, order]
    hits = np.cumsum(counted * truth[order], axis=1)[:, ends]
    called = np.cumsum(counted, axis=1)[:, ends]
    gained = np.diff(hits, prepend=0.0, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = (gained * np.where(called > 0, hits / called, 0)).sum(axis=1)
        found = hits[:, -1] if len(ends) else np.zeros(len(counted))
        return np.where(found > 0, area / found, np.nan)


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
