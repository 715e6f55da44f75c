"""The forecast of longer training holds known curves, and admits what it cannot know."""

import numpy as np
import pytest

from opsin.ops.forecast import forecast

TIMES = np.arange(1, 21) * 3.0


@pytest.mark.parametrize(("a", "b", "c"), [(0.05, 0.5, 0.7), (0.0, 0.6, 0.3), (0.2, 0.4, 1.2)])
def test_intervals_hold_the_true_gain_of_simulated_curves(a: float, b: float, c: float) -> None:
    generator = np.random.default_rng(0)
    true = b * (20.0**-c - 40.0**-c)
    held = []
    for _ in range(60):
        scores = 1 - (a + b * np.arange(1, 21.0) ** -c) + generator.normal(0, 0.008, 20)
        found = forecast(TIMES, scores, standard_error=0.008)
        assert found is not None
        held.append(found.low <= true <= found.high)
    assert np.mean(held) >= 0.9


def test_a_flat_curve_is_not_distinguishable_and_a_steep_one_is() -> None:
    noise = np.random.default_rng(1).normal(0, 0.004, 20)
    flat = forecast(TIMES, 0.9 + noise, standard_error=0.01)
    steep = forecast(TIMES, 1 - 0.9 * np.arange(1, 21.0) ** -0.3 + noise, standard_error=0.01)
    assert flat is not None
    assert steep is not None
    assert not flat.distinguishable
    assert flat.gain < 0.005
    assert steep.distinguishable
    assert steep.gain == pytest.approx(0.9 * (20**-0.3 - 40**-0.3), abs=0.02)


def test_few_epochs_and_scores_that_are_no_shares_are_not_forecast() -> None:
    assert forecast([1, 2, 3], [0.1, 0.2, 0.3], standard_error=0.01) is None
    assert forecast([1, 2, 3, 4], [5.0, 3.0, 2.0, 1.5], standard_error=0.01) is None
