"""Differences of main scores on the same samples, with an interval and a paired test.

Shapes: S seeds (runs that differ in nothing else), N samples, M sums, r resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from opsin.ops.intervals import (
    Z_95,
    bounded_interval,
    jackknife_quantiles,
    percentile_interval,
    resampled_weights,
    standard_errors,
)

Floats = NDArray[np.float64]
OfSums = Callable[[Floats], Floats]
NUM_RESAMPLES = 2000
NUM_SWAPS = 10_000
LEVEL = 0.95
_CHUNK_ELEMENTS = 1 << 21


def resampled_scores(parts: Sequence[Floats], of_sums: OfSums, *, seed: int = 0) -> Floats:
    """Mean scores over seeds [r] of resampled samples; every group gets the same samples, so they are paired.

    Args:
        parts: for each seed what each sample adds to the sums, float64 [N, M].
        of_sums: scores [r] of sums [r, M].
        seed: seed of the resampling.
    """
    chunks = resampled_weights(len(parts[0]), num_resamples=NUM_RESAMPLES, seed=seed)
    scores = np.concatenate([np.stack([of_sums(w @ p) for p in parts], axis=1) for w in chunks])
    means: Floats = scores.mean(axis=1)
    return means


def group_interval(parts: Sequence[Floats], of_sums: OfSums, *, bounded: bool = True) -> tuple[float, float]:
    """The 95 % interval of the mean main score over other seeds and other samples; of one seed, over samples alone.

    The half-widths of the two sources, each with the quantile that its number deserves (Student's of S - 1 for seeds),
    add up in squares; the sum is brought into [0, 1] by `bounded_interval`. Seeds differ on the samples at hand by
    noise of those samples too, which is so counted twice: the interval errs on the wide side. Of a score without
    bounds, the distances of the resamples' middle 95 % from it take the place of the first half-width.

    Args:
        parts: for each seed what each sample adds to the sums, float64 [N, M].
        of_sums: scores [r] of sums [r, M].
        bounded: the score cannot leave 0 to 1.

    Returns:
        Lower and upper end; NaN where the score is undefined.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach" (each
    part with its own limits). Coverage by simulation: docs/intervals.md.
    """
    num_samples = len(parts[0])
    resampled = resampled_scores(parts, of_sums)[:, None]
    if not bounded:
        ends = percentile_interval(resampled, level=LEVEL)
        return _widened(float(np.mean(_values(parts, of_sums))), ends, _seeds_half(_values(parts, of_sums)))

    def statistic(weights: Floats) -> Floats:
        scores = np.stack([of_sums(weights @ part) for part in parts], axis=1)
        means: Floats = scores.mean(axis=1, keepdims=True)
        return means

    values = _values(parts, of_sums)
    quantile = jackknife_quantiles(statistic, num_samples) if parts[0].shape[1] > 2 else Z_95
    of_samples = quantile * standard_errors(resampled, num_samples)
    half = np.hypot(of_samples, _seeds_half(values))
    low, high = bounded_interval(np.mean(values, keepdims=True), half, num_samples)
    return float(low[0]), float(high[0])


def difference_interval(
    a: Sequence[Floats], b: Sequence[Floats], of_sums: OfSums, *, bounded: bool = True
) -> tuple[float, float]:
    """The 95 % interval of the difference of mean scores, b less a.

    Of one seed on each side: the middle 95 % over resampled samples, the same for both. With two seeds or more on a
    side, the distances of its ends from the difference and the half-width over those seeds add up in squares.

    Args:
        a, b: for each seed what each of the same N samples adds to the sums, float64 [N, M].
        of_sums: scores [r] of sums [r, M].
        bounded: the score cannot leave 0 to 1, nor differences -1 to 1.

    Returns:
        Lower and upper end; NaN where the score is undefined.

    Source: Zou and Donner 2008, as in `group_interval`; degrees of freedom of the seeds: Welch 1947.
    """
    differences = resampled_scores(b, of_sums) - resampled_scores(a, of_sums)
    first, second = _values(a, of_sums), _values(b, of_sums)
    value = float(np.mean(second) - np.mean(first))
    ends = percentile_interval(differences[:, None], level=LEVEL)
    low, high = _widened(value, ends, _seeds_half(first, second))
    return (max(-1.0, low), min(1.0, high)) if bounded else (low, high)


def _widened(value: float, ends: tuple[Floats, Floats], half: float) -> tuple[float, float]:
    """The interval of a value whose ends [1] over samples and half-width over seeds add up in squares."""
    low, high = float(ends[0][0]), float(ends[1][0])
    if half == 0:
        return low, high
    return value - float(np.hypot(value - low, half)), value + float(np.hypot(high - value, half))


def _values(parts: Sequence[Floats], of_sums: OfSums) -> list[float]:
    """The main score of each seed."""
    return [float(of_sums(part.sum(axis=0, keepdims=True))[0]) for part in parts]


def _seeds_half(*groups: Sequence[float]) -> float:
    """Student's half-width of a mean, or of the difference of two, over seeds; a group of one adds nothing."""
    errors = [(np.var(scores, ddof=1) / len(scores), len(scores) - 1) for scores in groups if len(scores) > 1]
    total = sum(error for error, _ in errors)
    if not total > 0:
        return 0.0
    freedom = total**2 / sum(error**2 / count for error, count in errors)
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(total))


def swap_test(a: Sequence[Floats], b: Sequence[Floats], of_sums: OfSums, *, seed: int = 0) -> float:
    """Two-sided p of equal a and b: how often swapping them in random samples gives as large a difference.

    With several seeds, what a sample adds is their mean. It tests on these samples, and says nothing of other seeds.

    Args:
        a, b: for each seed what each of the same N samples adds to the sums, float64 [N, M].
        of_sums: scores [r] of sums [r, M].
        seed: seed of the swaps.

    Returns:
        1 / (1 + `NUM_SWAPS`) to 1.

    Source: Noreen 1989, "Computer-intensive methods for testing hypotheses", chapter 2 (approximate randomization).
    For one seed and scores that are shares it is McNemar's exact test, but for the random draws.
    """
    first, second = np.mean(a, axis=0), np.mean(b, axis=0)
    total, half = first + second, (second - first) / 2
    centre = total.sum(axis=0, keepdims=True) / 2
    observed = abs(_difference(half.sum(axis=0, keepdims=True), centre, of_sums)[0])
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK_ELEMENTS // len(half))
    as_large = 0
    for start in range(0, NUM_SWAPS, rows):
        signs = generator.integers(0, 2, size=(min(rows, NUM_SWAPS - start), len(half))) * 2.0 - 1.0
        as_large += int((np.abs(_difference(signs @ half, centre, of_sums)) >= observed - 1e-12).sum())
    return (1 + as_large) / (1 + NUM_SWAPS)


def _difference(half: Floats, centre: Floats, of_sums: OfSums) -> Floats:
    """Scores of centre + half less those of centre - half, [r] of [r, M]."""
    return of_sums(centre + half) - of_sums(centre - half)


def seeds_test(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Welch's two-sided p that the seeds of a and b have one mean; None with fewer than two seeds on a side, or without
    any spread between seeds to hold a difference against.

    Source: Welch 1947, "The generalization of 'Student's' problem when several different population variances are
    involved".
    """
    if min(len(a), len(b)) < 2:
        return None
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return 1.0 if np.mean(a) == np.mean(b) else None  # without a spread there is no evidence
    from scipy import stats  # slow to import, and rarely needed

    return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, adjusted for testing several pairs at once.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = np.argsort(p_values, kind="stable")
    raised, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        raised[i] = largest
    return raised
