"""Is one better? Differences of main scores on the same samples, with an interval and a paired test.

Shapes: S seeds (runs that differ in nothing else), N samples, M sums, r resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from opsin.ops.intervals import percentile_interval, resampled_weights

Floats = NDArray[np.float64]
OfSums = Callable[[Floats], Floats]
NUM_RESAMPLES = 2000
NUM_SWAPS = 10_000
LEVEL = 0.95
_CHUNK_ELEMENTS = 1 << 21


def resampled_scores(parts: Sequence[Floats], of_sums: OfSums, *, seed: int = 0, stream: int = 0) -> Floats:
    """Mean scores over seeds [r] of resampled samples and resampled seeds.

    The samples drawn depend on `seed` alone, so that two groups with the same one are paired; the seeds drawn depend
    on `stream` too. Means of S drawn seeds vary too little by the factor sqrt((S - 1) / S); it is made good.

    Args:
        parts: for each seed what each sample adds to the sums, float64 [N, M].
        of_sums: scores [r] of sums [r, M].
        seed: of the samples drawn.
        stream: of the seeds drawn.
    """
    num_samples, num_seeds = len(parts[0]), len(parts)
    chunks = resampled_weights(num_samples, num_resamples=NUM_RESAMPLES, seed=seed)
    scores = np.concatenate([np.stack([of_sums(w @ p) for p in parts], axis=1) for w in chunks])
    means: Floats = scores.mean(axis=1)
    if num_seeds == 1:
        return means
    drawn = np.random.default_rng((seed, stream)).integers(0, num_seeds, size=scores.shape)
    spread = np.take_along_axis(scores, drawn, axis=1).mean(axis=1) - means
    corrected: Floats = means + spread * float(np.sqrt(num_seeds / (num_seeds - 1)))
    return corrected


def difference_interval(a: Sequence[Floats], b: Sequence[Floats], of_sums: OfSums) -> tuple[float, float]:
    """The middle 95 % of the difference of mean scores, b less a, over resampled samples and seeds.

    Args:
        a, b: for each seed what each of the same N samples adds to the sums, float64 [N, M].
        of_sums: scores [r] of sums [r, M].

    Returns:
        Lower and upper end; NaN where the score is undefined.
    """
    differences = resampled_scores(b, of_sums, stream=1) - resampled_scores(a, of_sums, stream=2)
    low, high = percentile_interval(differences[:, None], level=LEVEL)
    return float(low[0]), float(high[0])


def swap_test(a: Sequence[Floats], b: Sequence[Floats], of_sums: OfSums, *, seed: int = 0) -> float:
    """Two-sided p that a and b are alike: how often swapping them in random samples gives as large a difference.

    With several seeds, what a sample adds is their mean. It tests on these samples, and says nothing of other seeds.

    Args:
        a, b: for each seed what each of the same N samples adds to the sums, float64 [N, M].
        of_sums: scores [r] of sums [r, M].
        seed: of the swaps.

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


def seeds_interval(scores: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of scores of two seeds or more.

    Source: Student 1908, "The probable error of a mean".
    """
    count = len(scores)
    half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * np.std(scores, ddof=1) / np.sqrt(count)
    return float(np.mean(scores) - half), float(np.mean(scores) + half)


def seeds_test(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Welch's two-sided p that the seeds of a and b have one mean; None with fewer than two seeds on a side.

    Source: Welch 1947, "The generalization of 'Student's' problem when several different population variances are
    involved".
    """
    if min(len(a), len(b)) < 2:
        return None
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        return 1.0 if np.mean(a) == np.mean(b) else 0.0
    return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, raised because several pairs are tested at once.

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
