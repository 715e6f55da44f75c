"""Confidence intervals: against scipy, against closed forms, by hand, and by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from opsin.ops.intervals import (
    Z_95,
    bootstrap,
    group_sums,
    percentile_interval,
    reflected_interval,
    resampled_weights,
    share_interval,
    wilson,
)


def test_z_is_the_normal_quantile():
    assert norm.ppf(0.975) == pytest.approx(Z_95, abs=1e-12)


def test_wilson_agrees_with_scipy():
    generator = np.random.default_rng(0)
    totals = generator.integers(1, 500, 200)
    successes = generator.integers(0, totals + 1)
    low, high = wilson(successes, totals)
    expected = [
        binomtest(int(k), int(n)).proportion_ci(method="wilson") for k, n in zip(successes, totals, strict=True)
    ]
    np.testing.assert_allclose(low, [interval.low for interval in expected], atol=1e-9)
    np.testing.assert_allclose(high, [interval.high for interval in expected], atol=1e-9)


def test_wilson_by_hand():
    # z = 2, 4 of 8: centre (1/2 + 4/16) / (1 + 4/8) = 1/2; half = 2 / 1.5 * sqrt(1/32 + 4/256) = sqrt(1/12)
    low, high = wilson(4, 8, z=2.0)
    assert float(low) == pytest.approx(0.5 - (1 / 12) ** 0.5, abs=1e-12)
    assert float(high) == pytest.approx(0.5 + (1 / 12) ** 0.5, abs=1e-12)


def test_wilson_ends_exactly_at_zero_and_one():
    low, high = wilson([0, 7], [7, 7])
    assert low[0] == 0.0
    assert high[1] == 1.0


def test_wilson_is_undefined_without_trials():
    assert np.isnan(wilson(0, 0)).all()


def test_every_resample_draws_as_many_samples_as_there_are():
    chunks = list(resampled_weights(300_000, num_resamples=5))
    weights = np.concatenate(chunks)
    assert len(chunks) > 1
    assert weights.shape == (5, 300_000)
    assert (weights.sum(axis=1) == 300_000).all()
    assert weights.var() == pytest.approx(1.0, abs=0.02)  # the counts are Poisson-like


def test_resamples_depend_on_the_seed_alone():
    def mean(weights):
        return weights @ np.arange(50.0)[:, None]

    assert (bootstrap(mean, 50, seed=3) == bootstrap(mean, 50, seed=3)).all()
    assert (bootstrap(mean, 50, seed=3) != bootstrap(mean, 50, seed=4)).any()


def test_bootstrap_of_a_mean_agrees_with_its_standard_error():
    values = np.random.default_rng(1).normal(size=400)
    resampled = bootstrap(lambda weights: weights @ values[:, None] / 400, 400, num_resamples=4000)
    low, high = percentile_interval(resampled)
    error = values.std() / 20
    assert low[0] == pytest.approx(values.mean() - Z_95 * error, abs=0.1 * error)
    assert high[0] == pytest.approx(values.mean() + Z_95 * error, abs=0.1 * error)


def test_percentiles_agree_with_numpy_and_leave_out_nan():
    resampled = np.random.default_rng(2).normal(size=(101, 4))
    resampled[:40, 1] = np.nan
    resampled[:, 2] = np.nan
    low, high = percentile_interval(resampled)
    for column in (0, 1, 3):
        np.testing.assert_allclose(
            [low[column], high[column]], np.nanquantile(resampled[:, column], [0.025, 0.975]), atol=1e-12
        )
    assert np.isnan([low[2], high[2]]).all()


def test_reflected_interval_by_hand_holds_the_value_and_no_negative_number():
    resampled = np.linspace(0.2, 0.4, 1001)[:, None]  # middle 95 %: 0.205 to 0.395
    low, high = reflected_interval(np.array([0.25]), resampled)
    assert low[0] == pytest.approx(0.105, abs=1e-9)
    assert high[0] == pytest.approx(0.295, abs=1e-9)
    low, high = reflected_interval(np.array([0.1]), resampled)
    assert low[0] == 0.0
    assert high[0] == 0.1


def test_group_sums_agree_with_one_hot_products():
    generator = np.random.default_rng(3)
    groups = generator.integers(-1, 5, 40)
    weights = generator.random((3, 40))
    one_hot = (groups[:, None] == np.arange(7)).astype(float)
    np.testing.assert_allclose(group_sums(weights, groups, 7), weights @ one_hot, atol=1e-12)


def test_group_sums_of_nothing_are_zero():
    assert (group_sums(np.ones((2, 0)), np.zeros(0, np.int64), 3) == np.zeros((2, 3))).all()


def test_a_share_without_mistakes_gets_wilsons_interval_and_the_others_the_percentiles() -> None:
    resampled = np.column_stack([np.ones(1000), np.linspace(0.2, 0.4, 1000), np.full(1000, np.nan)])
    low, high = share_interval(resampled, [20, 20, 20])
    expected_low, expected_high = wilson([20], [20])
    assert (low[0], high[0]) == (expected_low[0], expected_high[0])
    assert 0.8 < low[0] < 0.9
    assert (low[1], high[1]) == pytest.approx((0.205, 0.395))
    assert np.isnan(low[2])
