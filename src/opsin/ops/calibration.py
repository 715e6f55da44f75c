"""Do the probabilities mean what they say? Calibration error, reliability curve, temperature. numpy, float64.

Shapes: N samples, K classes, S bins, r resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.ops.intervals import Floats, Ints, group_sums
from opsin.ops.scores import SMALLEST_PROBABILITY, ratio

NUM_BINS = 15
MOST_FITTED = 1 << 26
"""Probabilities that a temperature is fitted to at most."""
_LOG_BETA_LIMIT = math.log(100)


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Confidence against accuracy in bins of confidence.

    `edges` float64 [S + 1]; `confidence`, `accuracy` float64 [S], means of the bin's samples, NaN for an empty bin;
    `count` int64 [S]. Bin s holds the confidences in (edges[s], edges[s + 1]], the first one its lower edge too.
    """

    edges: Floats
    confidence: Floats
    accuracy: Floats
    count: Ints


def equal_width_edges(num_bins: int = NUM_BINS) -> Floats:
    """Edges of bins of equal width over [0, 1]: float64 [S + 1]."""
    return np.linspace(0.0, 1.0, num_bins + 1)


def equal_mass_edges(confidences: NDArray[np.floating], num_bins: int = NUM_BINS) -> Floats:
    """Edges of bins that hold about as many samples each: quantiles of the confidences.

    Equal confidences stay in one bin, so there may be fewer bins than asked for.

    Returns:
        float64 [at most S + 1], from 0 to 1, increasing.

    Source: Nixon et al. 2019, arXiv 1904.01685, section 3 (adaptive calibration error).
    """
    inner = np.quantile(confidences.astype(np.float64), np.arange(1, num_bins) / num_bins)
    return np.unique(np.concatenate(([0.0], inner, [1.0])))


def bin_numbers(confidences: NDArray[np.floating], edges: Floats) -> Ints:
    """The bin of each confidence: int64 [N], 0 to S - 1."""
    numbers = np.searchsorted(edges, confidences.astype(np.float64), side="left") - 1
    return np.clip(numbers, 0, len(edges) - 2).astype(np.int64)


def reliability(confidences: NDArray[np.floating], correct: NDArray[np.bool_], edges: Floats) -> Reliability:
    """The reliability curve.

    Args:
        confidences: floating [N], 0 to 1, probability of the predicted class.
        correct: bool [N], whether the prediction was right.
        edges: float64 [S + 1].

    Source: Guo et al. 2017, arXiv 1706.04599, section 2.
    """
    bins, num_bins = bin_numbers(confidences, edges), len(edges) - 1
    count = np.bincount(bins, minlength=num_bins)
    totals = count.astype(np.float64)
    confidence = np.bincount(bins, weights=confidences, minlength=num_bins).astype(np.float64)
    hits = np.bincount(bins, weights=correct, minlength=num_bins).astype(np.float64)
    return Reliability(
        edges=edges, confidence=ratio(confidence, totals), accuracy=ratio(hits, totals), count=count.astype(np.int64)
    )


def calibration_error(confidences: NDArray[np.floating], correct: NDArray[np.bool_], edges: Floats) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over the bins, weighed by their counts.

    Args:
        confidences: floating [N], 0 to 1.
        correct: bool [N].
        edges: float64 [S + 1]; `equal_width_edges()` gives the usual error, `equal_mass_edges(...)` the adaptive one.

    Returns:
        0 to 1; NaN without samples.

    Source: Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    return float(weighted_calibration_error(np.ones((1, len(correct))), confidences, correct, edges)[0])


def weighted_calibration_error(
    weights: Floats, confidences: NDArray[np.floating], correct: NDArray[np.bool_], edges: Floats
) -> Floats:
    """Calibration errors where sample i counts `weights[:, i]` times.

    Args:
        weights: float64 [r, N].

    Returns:
        float64 [r].
    """
    gaps = weights * (confidences.astype(np.float64) - correct)
    per_bin = group_sums(gaps, bin_numbers(confidences, edges), len(edges) - 1)
    return ratio(np.abs(per_bin).sum(axis=1), weights.sum(axis=1))


def log_probabilities(probabilities: NDArray[np.floating]) -> Floats:
    """Logits that give back `probabilities`: their logarithms, float64 [N, K], those of 0 taken at float32's least."""
    return np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY))


def apply_temperature(probabilities: NDArray[np.floating], temperature: float) -> Floats:
    """Softmax of the logits divided by a temperature; above 1 softens, below 1 sharpens.

    Args:
        probabilities: floating [N, K], rows of sum 1.
        temperature: more than 0.

    Returns:
        float64 [N, K], rows of sum 1; the likeliest class stays the likeliest.
    """
    scaled = log_probabilities(probabilities) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    softened: Floats = scaled / scaled.sum(axis=1, keepdims=True)
    return softened


def fit_temperature(probabilities: NDArray[np.floating], labels: Ints) -> float:
    """The temperature that minimises the negative log likelihood.

    It is one number, so of very many classes `MOST_FITTED` probabilities are enough: those of evenly spread samples.
    The likelihood is convex in β = 1 / temperature, so its slope has one zero: found by Newton's method, kept inside a
    bracket by bisection.

    Args:
        probabilities: floating [N, K].
        labels: int64 [N].

    Returns:
        0.01 to 100, to 1e-10 relative; NaN where no such temperature is best (every prediction right, for example:
        the sharper the better).

    Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    if probabilities.size > MOST_FITTED:
        kept = np.linspace(0, len(labels) - 1, max(1, MOST_FITTED // probabilities.shape[1])).astype(np.int64)
        probabilities, labels = probabilities[kept], labels[kept]
    logits = log_probabilities(probabilities)
    logits -= logits.max(axis=1, keepdims=True)
    own = float(np.take_along_axis(logits, labels[:, None], axis=1).mean())
    low, high = math.exp(-_LOG_BETA_LIMIT), math.exp(_LOG_BETA_LIMIT)
    if _slope(logits, own, low)[0] >= 0 or _slope(logits, own, high)[0] <= 0:
        return math.nan
    beta = 1.0
    for _ in range(200):
        slope, curvature = _slope(logits, own, beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curvature if curvature > 0 else math.inf
        following = step if low < step < high else math.sqrt(low * high)
        if abs(following - beta) <= 1e-10 * beta:
            return 1 / following
        beta = following
    return 1 / beta


def _slope(logits: Floats, own: float, beta: float) -> tuple[float, float]:
    """First and second derivative of the mean negative log likelihood by β."""
    weights = np.exp(beta * logits)
    weights /= weights.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nk->n", weights, logits)
    square = np.einsum("nk,nk,nk->n", weights, logits, logits)
    return float(mean.mean()) - own, float(np.maximum(square - mean * mean, 0.0).mean())
