"""Prediction sets hold what they promise: by hand, and by simulation."""

import numpy as np
import pytest

from opsin.ops.conformal import conformal_p, conformal_threshold, coverage_interval, prediction_sets


def test_threshold_is_the_order_statistic_worked_by_hand() -> None:
    # 9 images, 80 %: ceil(10 * 0.8) = 8 of the scores 1 - p must lie at or below, so the second smallest p
    true_class = np.array([0.9, 0.2, 0.8, 0.7, 0.6, 0.95, 0.5, 0.4, 0.3])
    assert conformal_threshold(true_class, 0.8) == 0.3
    assert conformal_threshold(true_class, 0.9) == 0.2


def test_too_few_images_put_every_class_into_every_set() -> None:
    threshold = conformal_threshold([0.9, 0.8], 0.95)
    assert prediction_sets(np.array([[0.0, 1.0]]), threshold).all()


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_simulated_sets_hold_the_true_class_as_often_as_asked(coverage: float) -> None:
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        probabilities = generator.dirichlet(np.full(5, 0.3), 600)
        # the network is overconfident: labels follow flattened probabilities, and the sets hold all the same
        flat = probabilities**0.5 / (probabilities**0.5).sum(1, keepdims=True)
        labels = (flat.cumsum(1) < generator.random((600, 1))).sum(1).clip(0, 4)
        own = probabilities[np.arange(600), labels]
        sets = prediction_sets(probabilities[300:], conformal_threshold(own[:300], coverage))
        shares.append(sets[np.arange(300), labels[300:]].mean())
    assert np.mean(shares) == pytest.approx(coverage, abs=0.006)
    assert np.mean(shares) > coverage - 0.004  # 4 standard errors


def test_coverage_interval_holds_the_coverage_of_simulated_draws() -> None:
    # scores uniform on [0, 1]: the coverage of a threshold is known exactly
    generator = np.random.default_rng(1)
    low, high = coverage_interval(180, 0.9)
    found = np.array([1 - conformal_threshold(generator.random(180), 0.9) for _ in range(4000)])
    assert np.mean((found >= low) & (found <= high)) == pytest.approx(0.95, abs=0.012)
    assert coverage_interval(5, 0.95) == (1.0, 1.0)


def test_conformal_p_is_at_most_x_for_a_share_x_of_alike_images() -> None:
    generator = np.random.default_rng(2)
    found = np.concatenate([conformal_p(generator.normal(size=99), generator.normal(size=20)) for _ in range(500)])
    for share in (0.01, 0.05, 0.5):
        assert np.mean(found <= share) == pytest.approx(share, abs=0.012)
    assert conformal_p([1.0, 2.0], [5.0])[0] == pytest.approx(1 / 3)
