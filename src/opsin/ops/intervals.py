"""95 % confidence intervals: Wilson's for proportions, the bootstrap for everything else. numpy, float64.

Shapes: N samples, R resamples, M statistics, G groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Statistic = Callable[[Floats], Floats]
"""From how often each sample was drawn, float64 [r, N], to the statistics of those r resamples, float64 [r, M]."""

Z_95 = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""
NUM_RESAMPLES = 1000
_CHUNK_ELEMENTS = 1 << 20


def wilson(successes: ArrayLike, totals: ArrayLike, *, z: float = Z_95) -> tuple[Floats, Floats]:
    """Wilson's score interval of a proportion; right near 0 and 1, where the normal approximation is not.

    Args:
        successes: counts, any shape, 0 to `totals`.
        totals: counts of trials, same shape.
        z: normal quantile; the default gives 95 %.

    Returns:
        Lower and upper ends, float64 of the same shape, in [0, 1]; NaN where there was no trial.

    >>> low, high = wilson(8, 10)
    >>> f"{low:.4f} {high:.4f}"
    '0.4902 0.9433'

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", equation 5.
    """
    k, n = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(totals, np.float64))
    n = np.where(n > 0, n, np.nan)
    share, z2 = k / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At 0 and at n successes one end is exact; rounding would leave it an ulp outside or inside.
    low = np.where(k == 0, 0.0 * n, np.maximum(centre - half, 0.0))
    high = np.where(k == n, 1.0 + 0.0 * n, np.minimum(centre + half, 1.0))
    return low, high


def resampled_weights(num_samples: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """How often each sample is drawn when N of N are drawn with replacement.

    Yields:
        float64 [r, N] in chunks that bound memory; R rows in all, each of sum N. The rows depend on the seed alone.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK_ELEMENTS // max(num_samples, 1))
    for start in range(0, num_resamples, rows):
        count = min(rows, num_resamples - start)
        drawn = generator.integers(0, num_samples, size=(count, num_samples))
        drawn += np.arange(count)[:, None] * num_samples
        yield np.bincount(drawn.ravel(), minlength=count * num_samples).reshape(count, -1).astype(np.float64)


def bootstrap(statistic: Statistic, num_samples: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Floats:
    """`statistic` of R resamples of the samples.

    Every score of ours is a function of sums over samples, so a resample is a row of weights and all resamples are
    a few matrix products; no sample is copied.

    Returns:
        float64 [R, M].

    Source: Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    chunks = resampled_weights(num_samples, num_resamples=num_resamples, seed=seed)
    return np.concatenate([statistic(weights) for weights in chunks])


def percentile_interval(resampled: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """The middle `level` of the resampled statistics, each column by itself.

    A resample in which a statistic is NaN (a class was not drawn) does not count for that statistic.

    Args:
        resampled: float64 [R, M].

    Returns:
        Lower and upper ends, float64 [M]; NaN where no resample had a value.
    """
    ordered = np.sort(resampled, axis=0)  # NaN last
    last = (~np.isnan(ordered)).sum(axis=0) - 1
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        position = np.maximum(last, 0) * share
        below = np.floor(position).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(last, 0))
        lower = np.take_along_axis(ordered, below[None], axis=0)[0]
        upper = np.take_along_axis(ordered, above[None], axis=0)[0]
        ends.append(lower + (position - below) * (upper - lower))
    return ends[0], ends[1]


def share_interval(resampled: Floats, trials: ArrayLike, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """The percentile interval of shares; Wilson's where all resamples agree on 0 or 1.

    No resample of a split without mistakes has one, so the bootstrap would claim certainty: "100 % to 100 %".

    Args:
        resampled: float64 [R, M], shares from 0 to 1.
        trials: samples behind each share, [M] or one number.

    Returns:
        Lower and upper ends, float64 [M].
    """
    low, high = percentile_interval(resampled, level=level)
    certain = (low == high) & ((low == 0) | (low == 1))
    trials = np.broadcast_to(np.asarray(trials), low.shape)
    wide_low, wide_high = wilson(np.where(certain, low, 0) * trials, trials)
    return np.where(certain, wide_low, low), np.where(certain, wide_high, high)


def reflected_interval(value: Floats, resampled: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """The interval for a statistic that noise can only raise, such as a calibration error, of least value 0.

    Resampling adds noise to noise: the resampled values lie above the measured one by about as much as that lies above
    the truth. The percentile interval would therefore miss the truth; reflecting it at the value takes that bias out.
    It is widened where needed so that it holds the value itself.

    Measured on calibration errors of 2,000 samples, 100 trials: it held a true error of 0.05 in 92 %, of 0.02 in 83 %,
    of 0 in 59 % (percentile interval: 91 %, 47 %, 0 %). Near 0 it is too narrow, and then too high.

    Args:
        value: float64 [M].
        resampled: float64 [R, M].

    Returns:
        Lower and upper ends, float64 [M], 0 <= low <= value <= high.

    Source: Davison and Hinkley 1997, "Bootstrap methods and their application", section 5.2 (basic interval).
    """
    low, high = percentile_interval(resampled, level=level)
    return np.clip(2 * value - high, 0.0, value), np.maximum(2 * value - low, value)


def group_sums(weights: Floats, groups: Ints, num_groups: int) -> Floats:
    """Sum of each row's weights over the samples of each group.

    Args:
        weights: float64 [r, N].
        groups: int64 [N], 0 to G - 1; a negative number is in no group.
        num_groups: G.

    Returns:
        float64 [r, G]; 0 for a group without samples.
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    present, starts = np.unique(ordered, return_index=True)
    sums = np.zeros((len(weights), num_groups))
    if len(present) == 0:
        return sums
    per_group = np.add.reduceat(weights[:, order], starts, axis=1)
    inside = present >= 0
    sums[:, present[inside]] = per_group[:, inside]
    return sums
