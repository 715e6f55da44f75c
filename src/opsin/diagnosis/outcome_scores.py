"""The main score of any task, with its interval, from per-sample sums.

Shapes: N samples, r resamples.
"""

from __future__ import annotations

import numpy as np

from opsin.comparison.outcomes import Outcomes
from opsin.ops.intervals import Floats, bootstrap, share_interval, wilson
from opsin.types import Score


def resampled_scores(outcomes: Outcomes) -> Floats:
    """The main score of resamples of the samples, float64 [r]; the same resamples for every N."""
    parts = outcomes.parts
    return bootstrap(lambda weights: outcomes.of_sums(weights @ parts)[:, None], len(parts))[:, 0]


def score_of(outcomes: Outcomes, resampled: Floats | None = None) -> Score:
    """The main score with its 95 % interval: Wilson's for a share of samples, else the bootstrap's.

    `resampled`: the result of `resampled_scores`, if available.
    """
    count = len(outcomes.parts)
    if count == 0:
        return Score(np.nan)
    value = outcomes.value
    if outcomes.is_share:
        low, high = wilson(outcomes.parts[:, 0].sum(), count)
        return Score(value, float(low), float(high))
    if resampled is None:
        resampled = resampled_scores(outcomes)
    ends = share_interval(np.array([value]), resampled[:, None], count, num_samples=count)
    return Score(value, float(ends[0][0]), float(ends[1][0]))
