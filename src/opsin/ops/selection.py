"""By how much the best of several scores leans to the good side. numpy, float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from opsin.ops.intervals import Z_95
from opsin.types import Score

NUM_DRAWS = 2000
FEWEST = 4
"""Scores from which on their wobble is known at all."""


def best_of_optimism(scores: Sequence[float], best: Score) -> float:
    """How much the best epoch's score on val exceeds that epoch's true score, on average.

    The epochs' true scores are taken to rise and never to fall (isotonic regression), and what the scores wobble
    around that for luck: its standard deviation is that of second differences, in which a trend cancels, and not above
    the standard error of a score on so many samples. Then epochs are drawn anew, and the luck of the best of each draw
    is averaged. Some of the wobble may be the network's own, from step to step, and is no luck; and scores that fall in
    the end compete less than it is taken here: then the number is too large. Checked in `tests/ops/test_selection.py`.

    Args:
        scores: of the epochs in order, on one val.
        best: the score of the best epoch with its interval; without one the wobble is not bounded.

    Returns:
        0 or more, in the scores' unit; NaN for fewer than `FEWEST` epochs.

    Source: Gasser, Sroka, Jennen-Steinmetz 1986, "Residual variance and residual pattern in nonlinear regression" (the
    standard deviation); the maximum over noisy candidates as in Cawley and Talbot 2010, JMLR 11 (over-fitting in
    model selection).

    >>> best_of_optimism([0.1, 0.2, 0.3, 0.4, 0.5], Score(0.5))
    0.0
    """
    from scipy import optimize  # slow to import, and rarely needed

    values = np.asarray(scores, np.float64)
    if len(values) < FEWEST:
        return math.nan
    second = values[:-2] / 2 - values[1:-1] + values[2:] / 2
    noise = math.sqrt(float(np.mean(np.square(second))) * 2 / 3)
    if best.high == best.high:
        noise = min(noise, (best.high - best.low) / (2 * Z_95))
    trend = np.asarray(optimize.isotonic_regression(values).x)
    luck = noise * np.random.default_rng(0).standard_normal((NUM_DRAWS, len(values)))
    chosen = (trend + luck).argmax(axis=1)
    return max(0.0, float(luck[np.arange(NUM_DRAWS), chosen].mean()))
