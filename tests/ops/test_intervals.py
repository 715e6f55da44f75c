"""Confidence intervals: against scipy, against closed forms, by hand, and by coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm, sem, t
from scipy.stats import bootstrap as scipy_bootstrap

from opsin.ops.intervals import (
    Z_95,
    bootstrap,
    bounded_interval,
    group_sums,
    jackknife_quantiles,
    percentile_interval,
    reflected_interval,
    resampled_weights,
    share_interval,
    standard_errors,
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


def test_a_share_without_mistakes_gets_wilsons_interval() -> None:
    resampled = np.column_stack([np.ones(1000), np.full(1000, np.nan)])
    low, high = share_interval(np.array([1.0, np.nan]), resampled, [20, 20], num_samples=20)
    expected_low, expected_high = wilson([20], [20])
    assert (low[0], high[0]) == (pytest.approx(expected_low[0]), expected_high[0])
    assert 0.8 < low[0] < 0.9
    assert np.isnan([low[1], high[1]]).all()


def test_the_bounded_interval_of_a_share_is_wilsons() -> None:
    hits, total = np.arange(21), 20
    share = hits / total
    found = bounded_interval(share, Z_95 * np.sqrt(share * (1 - share) / total), total)
    np.testing.assert_allclose(found, wilson(hits, np.full(21, total)), atol=1e-12)


def test_the_bounded_interval_by_hand() -> None:
    # p = 1/2, half = 1/2: c = 1; centre (1/2 + 1/2) / 2 = 1/2, width sqrt(1/4 + 1/4) / 2 = sqrt(1/8)
    low, high = bounded_interval(0.5, 0.5, 10)
    assert (float(low), float(high)) == pytest.approx((0.5 - 8**-0.5, 0.5 + 8**-0.5))


def test_the_bounded_interval_never_leaves_0_and_1_however_uncertain_the_score() -> None:
    low, high = bounded_interval([0.375, 0.99, 0.0], [1.6, 40.0, 3.0], 16)
    assert (low >= 0).all()
    assert (high <= 1).all()
    assert (low < high).all()


def test_standard_errors_are_those_of_a_mean_and_leave_out_nan() -> None:
    values = np.random.default_rng(4).normal(size=50)
    resampled = bootstrap(lambda weights: weights @ values[:, None] / 50, 50, num_resamples=4000)
    gaps = np.concatenate([resampled, np.full((7, 1), np.nan)])
    assert standard_errors(gaps, 50)[0] == pytest.approx(sem(values), rel=0.05)
    assert np.isnan(standard_errors(np.full((5, 1), np.nan), 50)[0])


def test_where_a_mean_of_recalls_is_near_1_the_interval_is_close_to_scipys_bca_and_not_to_the_percentiles() -> None:
    right = np.ones(180)
    right[[3, 60, 61]] = 0

    def recall(weights):
        return (weights * right).reshape(-1, 4, 45).sum(2) / np.maximum(weights.reshape(-1, 4, 45).sum(2), 1)

    def statistic(index, axis):
        counts = np.stack([(index == i).sum(axis=axis) for i in range(180)], axis=-1)
        return recall(counts.reshape(-1, 180).astype(float)).mean(1).reshape(counts.shape[:-1])

    exact = scipy_bootstrap(
        (np.arange(180),), statistic, n_resamples=1000, batch=100, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    resampled = bootstrap(lambda weights: recall(weights).mean(1, keepdims=True), 180)
    low, high = share_interval(np.array([right.mean()]), resampled, 180, num_samples=180)
    plain = percentile_interval(resampled)
    assert abs(low[0] - exact.low) < abs(plain[0][0] - exact.low)
    assert (low[0], high[0]) == pytest.approx((exact.low, exact.high), abs=0.008)


def test_the_quantile_is_the_normal_one_of_many_alike_samples_and_larger_where_few_decide() -> None:
    values = np.zeros((200, 3))
    values[:, 0] = np.random.default_rng(5).normal(size=200)
    values[:3, 1] = [1.0, -1.0, 1.0]

    def mean(weights):
        return weights @ values / weights.sum(axis=1, keepdims=True)

    alike, few, none = jackknife_quantiles(mean, 200)
    assert alike == pytest.approx(t.ppf(0.975, 200), abs=0.01)
    assert few == pytest.approx(t.ppf(0.975, 6), abs=0.1)  # three samples: 2 / (1 / 3)
    assert none == pytest.approx(Z_95, abs=0.01)
    assert jackknife_quantiles(mean, 200, most=20)[0] == pytest.approx(t.ppf(0.975, 20), abs=0.3)
