"""How likely a given label is wrong, from probabilities that a network gave without having seen the sample. numpy.

A label is taken for the true class with probability 1 - e, else for any other class alike. Given out-of-fold
probabilities p, the true class has q = p at some temperature; so the given label y has the probability
(1 - e) q_y + e (1 - q_y) / (K - 1). Temperature and e are those under which all labels together are likeliest: a
network that was fitted to some wrong labels is less sure than it should be, which the temperature takes back.

Shapes: N samples, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.ops.calibration import apply_temperature
from opsin.ops.intervals import Floats, Ints

LEAST_NOISE = 0.01
"""Share of wrong labels that is always taken for possible: the fit hardly tells fewer from hard images."""
MOST_NOISE = 0.5
NUM_SHARES = 12
TEMPERATURES = (0.2, 5.0)


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """`noise`: fitted share of wrong labels, `LEAST_NOISE` or more. `temperature`: divisor of the logits. `wrong`:
    float64 [N], probability that each label is wrong."""

    noise: float
    temperature: float
    wrong: Floats


def fit_label_noise(probabilities: NDArray[np.floating], labels: Ints) -> LabelNoise:
    """The share of wrong labels, and how likely each is one.

    Args:
        probabilities: floating [N, K], out of fold, K > 1.
        labels: int64 [N], as given.

    Source: the model of uniform label noise of Angluin and Laird 1988; its posterior by Bayes' rule.
    """

    from scipy import optimize  # slow to import, and rarely needed

    others = probabilities.shape[1] - 1

    def own(log_temperature: float) -> Floats:
        softened = apply_temperature(probabilities, float(np.exp(log_temperature)))
        found: Floats = softened[np.arange(len(labels)), labels]
        return found

    def best_temperature(noise: float) -> tuple[float, float]:
        """The loss at the best temperature for a share of wrong labels, and that temperature's logarithm."""

        def loss(log_temperature: float) -> float:
            true = own(log_temperature)
            return -float(np.log((1 - noise) * true + noise / others * (1 - true) + 1e-12).mean())

        found = optimize.minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
        return float(found.fun), float(found.x)

    grid = np.geomspace(LEAST_NOISE, MOST_NOISE, NUM_SHARES)
    place = int(np.argmin([best_temperature(noise)[0] for noise in grid]))
    ends = (np.log(grid[max(place - 1, 0)]), np.log(grid[min(place + 1, len(grid) - 1)]))
    found = optimize.minimize_scalar(lambda x: best_temperature(float(np.exp(x)))[0], bounds=ends, method="bounded")
    noise = float(np.exp(found.x))
    log_temperature = best_temperature(noise)[1]
    true = own(log_temperature)
    mistaken = noise / others * (1 - true)
    return LabelNoise(
        noise=noise,
        temperature=float(np.exp(log_temperature)),
        wrong=mistaken / np.maximum((1 - noise) * true + mistaken, 1e-300),
    )
