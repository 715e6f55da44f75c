"""95 % confidence intervals: Wilson's for proportions, the bootstrap for everything else. numpy, float64.

Scores from 0 to 1 that are not a proportion get Wilson's form with the bootstrap's standard error. How often each kind
holds the truth is in docs/intervals.md, by `benchmarks/coverage.py`.

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
MOST_JACKKNIFE = 500
"""Groups of samples that are left out in turn."""
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


def bounded_interval(value: ArrayLike, half: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    """Wilson's interval of any score from 0 to 1, from the half-width that its standard error gives.

    Wilson's formula knows a share by z^2 / n alone, and half^2 = z^2 value (1 - value) / n ties that to the half-width.
    So a mean of shares gets the n at which one share would be as uncertain: the interval leans inwards near 0 and 1,
    never leaves them, and is the symmetric one far from them.

    Args:
        value: scores from 0 to 1, any shape; one outside by rounding is taken as the end.
        half: z standard errors (or those of Student's t), same shape.
        trials: samples behind each score: they decide where the score is 0 or 1, and no error can be seen.

    Returns:
        Lower and upper ends, float64 of the same shape, in [0, 1]; NaN where the score is.

    >>> low, high = bounded_interval(0.8, 1.96 * (0.8 * 0.2 / 10) ** 0.5, 10)
    >>> f"{low:.4f} {high:.4f}"
    '0.4902 0.9433'

    Source: Dean and Pagano 2015, "Evaluating confidence interval methods for binomial proportions in clustered
    surveys" (Wilson's interval at the effective sample size). Coverage by simulation: docs/intervals.md.
    """
    share = np.clip(np.asarray(value, np.float64), 0.0, 1.0)
    spread = share * (1 - share)
    n = np.where(np.asarray(trials) > 0, trials, np.nan)
    c = np.where(spread > 0, np.square(half) / np.where(spread > 0, spread, 1.0), Z_95**2 / n)
    centre = (share + c / 2) / (1 + c)
    width = np.sqrt(spread * c + c * c / 4) / (1 + c)
    low = np.where(share == 0, 0.0 * c, np.maximum(centre - width, 0.0))
    high = np.where(share == 1, 1.0 + 0.0 * c, np.minimum(centre + width, 1.0))
    return low, high


def standard_errors(resampled: Floats, num_samples: int) -> Floats:
    """Standard errors of M statistics from their resamples, float64 [M] of [R, M].

    Drawn samples vary less than the population by the factor sqrt((N - 1) / N); it is made good. A resample in which a
    statistic is NaN does not count; NaN with fewer than two that do.
    """
    known = ~np.isnan(resampled)
    count = np.where((found := known.sum(axis=0)) > 1, found, np.nan)
    mean = np.where(known, resampled, 0).sum(axis=0) / count
    squares = np.square(np.where(known, resampled - mean, 0)).sum(axis=0)
    errors: Floats = np.sqrt(squares / (count - 1) * num_samples / max(num_samples - 1, 1))
    return errors


def share_interval(
    value: Floats, resampled: Floats, trials: ArrayLike, *, num_samples: int, quantile: ArrayLike = Z_95
) -> tuple[Floats, Floats]:
    """`bounded_interval` of shares and their means, with the bootstrap's standard error.

    Args:
        value: float64 [M], from 0 to 1.
        resampled: float64 [R, M].
        trials: samples behind each score, [M] or one number.
        num_samples: N that were drawn in each resample.
        quantile: of the standard normal, or of Student's t where few samples make up the spread, [M] or one number.

    Returns:
        Lower and upper ends, float64 [M], low <= value <= high.
    """
    return bounded_interval(value, np.asarray(quantile) * standard_errors(resampled, num_samples), trials)


def jackknife_quantiles(statistic: Statistic, num_samples: int, *, most: int = MOST_JACKKNIFE) -> Floats:
    """97.5 % quantiles of Student's t for M statistics whose spread may hang on few samples.

    A standard error is itself an estimate. Where each sample adds as much as in a normal distribution, it has N
    degrees of freedom; where a few make up the spread (a rare class lies in three images), about as many as they are.
    They follow from the fourth moment of what leaving out a sample changes: 2 / (sum u^4 / (sum u^2)^2 - 1 / N).

    Args:
        statistic: of weights [r, N], float64 [r, M].
        num_samples: N.
        most: samples are left out in at most this many groups, alike in size: N^2 numbers would be too many.

    Returns:
        float64 [M], 1.96 and more.

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 11 (jackknife); Satterthwaite 1946
    for the degrees of freedom of a variance.
    """
    from scipy import special  # slow to import, and not needed before training

    count = min(num_samples, most)
    if count < 2:
        return np.full(statistic(np.ones((1, num_samples))).shape[1], Z_95)
    group = np.random.default_rng(0).permutation(num_samples) % count
    rows = max(1, _CHUNK_ELEMENTS // num_samples)
    starts = range(0, count, rows)
    left_out = np.concatenate(
        [statistic((np.arange(i, min(i + rows, count))[:, None] != group).astype(np.float64)) for i in starts]
    )
    known = ~np.isnan(left_out)
    mean = np.where(known, left_out, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    squares = np.square(np.where(known, left_out - mean, 0))
    total = squares.sum(axis=0)
    share = np.square(squares).sum(axis=0) / np.where(total > 0, total, 1) ** 2
    freedom = 2 / np.maximum(share - 1 / count, 2 / 1e6)
    return np.asarray(special.stdtrit(np.maximum(freedom, 1.0), 0.975), np.float64)


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
