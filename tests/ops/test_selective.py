"""An abstain threshold keeps the risk that was asked for, and answers as much as it can."""

import numpy as np
import pytest
from scipy import stats

from opsin.ops.selective import STARTS, abstain_threshold, risk_bound, risk_coverage


def test_risk_coverage_by_hand() -> None:
    curve = risk_coverage(np.array([0.9, 0.5, 0.8, 0.6]), np.array([True, False, True, False]))
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0, 0, 1 / 3, 0.5])
    assert curve.area == pytest.approx((1 / 3 + 0.5) / 4)


def test_risk_bound_is_that_of_scipy() -> None:
    expected = stats.binomtest(7, 100, alternative="less").proportion_ci(0.95, method="exact").high
    assert risk_bound(7, 100) == pytest.approx(expected)
    assert risk_bound(3, 3) == 1.0


def test_a_network_that_is_good_enough_answers_everything() -> None:
    generator = np.random.default_rng(0)
    found = abstain_threshold(generator.random(500), np.ones(500, bool), 0.05)
    assert found is not None
    assert found.coverage == 1.0
    assert found.threshold == 0.0


def test_too_few_images_promise_nothing() -> None:
    # with no mistake at all, n images reject a risk r at the level of a start when (1 - r)^n is below it
    enough = int(np.ceil(np.log(0.05 / STARTS) / np.log(0.95)))
    confidences = np.linspace(0.5, 0.9, enough)
    assert abstain_threshold(confidences, np.ones(enough, bool), 0.05) is not None
    assert abstain_threshold(confidences[1:], np.ones(enough - 1, bool), 0.05) is None


@pytest.mark.parametrize(("shape", "risk"), [(8, 0.1), (3, 0.2), (30, 0.02)])
def test_the_risk_is_kept_in_at_least_95_percent_of_draws(shape: int, risk: float) -> None:
    generator = np.random.default_rng(0)
    many = np.sort(generator.beta(shape, 1, 200_000))[::-1]
    true_risk = np.cumsum(np.minimum(1.3 * (1 - many), 1)) / np.arange(1, len(many) + 1)
    broken, coverages = 0, []
    for _ in range(400):
        confidences = generator.beta(shape, 1, 1000)
        correct = generator.random(1000) > np.minimum(1.3 * (1 - confidences), 1)
        found = abstain_threshold(confidences, correct, risk)
        if found is not None:
            above = int(np.searchsorted(-many, -found.threshold))
            broken += true_risk[max(above - 1, 0)] > risk
            coverages.append(found.coverage)
    assert broken / 400 <= 0.05
    assert np.mean(coverages) > 0.05


def test_equal_confidences_are_answered_together() -> None:
    confidences = np.repeat([0.9, 0.5], [300, 300])
    correct = np.r_[np.ones(300, bool), np.zeros(300, bool)]
    found = abstain_threshold(confidences, correct, 0.1)
    assert found is not None
    assert (found.answered, found.threshold) == (300, 0.5)
