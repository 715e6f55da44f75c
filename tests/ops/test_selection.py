"""The optimism of the best epoch is estimated near what it truly is."""

import numpy as np
import pytest

from opsin.ops.selection import best_of_optimism
from opsin.types import Score

RISE = 0.9 - 0.3 * np.exp(-np.arange(20) / 3)


@pytest.mark.parametrize("trend", [np.full(20, 0.9), RISE], ids=["plateau", "rise"])
def test_simulated_optimism_is_found_to_a_fifth(trend: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    truth, found = [], []
    for _ in range(120):
        luck = generator.normal(0, 0.013, len(trend))
        best = int((trend + luck).argmax())
        truth.append(luck[best])
        found.append(best_of_optimism(list(trend + luck), Score(0.9, 0.85, 0.94)))
    assert np.mean(found) == pytest.approx(np.mean(truth), rel=0.2)


def test_optimism_of_the_best_of_alike_epochs_is_that_of_a_normal_maximum() -> None:
    # the mean of the largest of 20 standard normal draws is 1.867
    scores = np.random.default_rng(3).normal(0, 1, 20)
    noise = np.sqrt(np.mean((scores[:-2] / 2 - scores[1:-1] + scores[2:] / 2) ** 2) * 2 / 3)
    assert 0.5 * noise < best_of_optimism(list(scores), Score(1.0)) <= 1.9 * noise


def test_a_smooth_rise_and_few_epochs() -> None:
    assert best_of_optimism([0.1, 0.2, 0.3, 0.4], Score(0.4)) == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(best_of_optimism([0.1, 0.2, 0.3], Score(0.3)))
