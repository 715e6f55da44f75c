"""What longer training would bring, from the learning curve. numpy, float64.

The error of the curve is taken for a + b t^-c, whose constants are never known from one curve: so all pairs (a, c) of a
grid count, each with its best b and as much as the curve speaks for it. Where a curve has hardly bent, a wide interval
comes out, as it should.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opsin.ops.intervals import Floats

FEWEST = 4
"""Epochs from which on a curve says anything."""
EXPONENTS = np.geomspace(0.1, 3.0, 25)
ASYMPTOTES = np.linspace(0.0, 1.0, 26)
"""Errors that are left in the end, as shares of the least error that was seen."""
CORRELATION = 2.0
"""How many epochs count as one: they are scored on the same images, so their errors are alike."""
LEAST_NOISE = 1e-3
"""Standard deviation of a score around its curve, at the least: curves are not exact powers."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """`gain`: of the score, with `low` and `high` of its 95 % interval, from training `factor` times as long.

    `distinguishable`: the whole interval is above what the val split can show.
    """

    factor: float
    gain: float
    low: float
    high: float
    distinguishable: bool


def forecast(
    times: Sequence[float], scores: Sequence[float], *, standard_error: float, factor: float = 2.0
) -> Forecast | None:
    """The gain in a score from 0 to 1 by training longer, its schedule stretched.

    Args:
        times: at the ends of the epochs, rising, more than 0: seconds or epochs.
        scores: of the epochs on val.
        standard_error: of one score on val.
        factor: how many times as long.

    Returns:
        None for fewer than `FEWEST` epochs, or scores that are no shares.

    Source: the power law of learning curves, Domhan et al. 2015, "Speeding up automatic hyperparameter optimization of
    deep neural networks by extrapolation of learning curves" (pow3); weights by the likelihood of the residuals.
    """
    t, error = np.asarray(times, np.float64), 1 - np.asarray(scores, np.float64)
    known = np.isfinite(error) & (t > 0)
    t, error = t[known], error[known]
    if len(error) < FEWEST or error.min() < 0 or error.max() > 1:
        return None
    end = float(t[-1])
    gains, weights = _gains(t / end, error, factor)
    low, middle, high = _quantiles(gains, weights, (0.025, 0.5, 0.975))
    return Forecast(factor=factor, gain=middle, low=low, high=high, distinguishable=low > max(standard_error, 0.0))


def _gains(t: Floats, error: Floats, factor: float) -> tuple[Floats, Floats]:
    """The gain of each curve of the grid and its weight, [C] both.

    Early epochs count less: what a network learns first says little about its end.
    """
    second = error[:-2] / 2 - error[1:-1] + error[2:] / 2
    # the later half tells how much a score wobbles; in the first the curve itself bends
    noise = math.sqrt(float(np.mean(np.square(second[len(second) // 2 :]))) * 2 / 3)
    spread = max(noise, LEAST_NOISE) / np.sqrt(t)
    c = EXPONENTS[:, None, None]
    a = (ASYMPTOTES * error.min())[None, :, None]
    basis, inverse = t**-c, 1 / np.square(spread)
    b = np.maximum(((error - a) * basis * inverse).sum(-1) / (basis**2 * inverse).sum(-1), 0.0)
    loss = (np.square(error - a - b[..., None] * basis) * inverse).sum(-1)
    # the fit's own misfit counts as noise too
    scale = max(1.0, float(loss.min()) / max(len(t) - 3, 1))
    weights = np.exp(-(loss - loss.min()) / (2 * scale * CORRELATION))
    gains = b * (1 - factor ** -c[..., 0])
    return gains.ravel(), weights.ravel()


def _quantiles(values: Floats, weights: Floats, shares: Sequence[float]) -> tuple[float, ...]:
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return tuple(float(values[order][min(int(np.searchsorted(reached, share)), len(order) - 1)]) for share in shares)
