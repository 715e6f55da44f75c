"""Calibration: against torchmetrics and scikit-learn, scipy's optimizer, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from opsin.ops.calibration import (
    apply_temperature,
    bin_numbers,
    calibration_error,
    equal_mass_edges,
    equal_width_edges,
    fit_temperature,
    log_probabilities,
    reliability,
    weighted_calibration_error,
)
from opsin.ops.intervals import bootstrap, percentile_interval, reflected_interval


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def random_case(seed, num_samples=500, num_classes=5, sharpness=2.0):
    """Logits that are right `1 / sharpness` as often as they claim."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num_samples, num_classes)) * 1.5
    honest = softmax(logits)
    labels = (honest.cumsum(axis=1) < generator.random((num_samples, 1))).sum(axis=1)
    return softmax(sharpness * logits), np.minimum(labels, num_classes - 1).astype(np.int64)


def confidence_of(probabilities, labels):
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


SEEDS = pytest.mark.parametrize("seed", range(6))


@SEEDS
def test_calibration_error_agrees_with_torchmetrics(seed):
    probabilities, labels = random_case(seed)
    error = calibration_error(*confidence_of(probabilities, labels), equal_width_edges())
    theirs = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), 5, n_bins=15)
    assert error == pytest.approx(float(theirs), abs=1e-6)  # torchmetrics adds up in float32


@SEEDS
def test_calibration_error_agrees_with_its_definition(seed):
    probabilities, labels = random_case(seed)
    confidences, correct = confidence_of(probabilities, labels)
    expected = 0.0
    for s in range(15):
        inside = (confidences > s / 15) & (confidences <= (s + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidences[inside].mean() - correct[inside].mean())
    assert calibration_error(confidences, correct, equal_width_edges()) == pytest.approx(expected, abs=1e-9)


@SEEDS
def test_reliability_agrees_with_scikit_learn(seed):
    confidences, correct = confidence_of(*random_case(seed))
    curve = reliability(confidences, correct, equal_width_edges())
    accuracy, confidence = calibration_curve(correct, confidences, n_bins=15)
    filled = curve.count > 0
    np.testing.assert_allclose(curve.accuracy[filled], accuracy, atol=1e-9)
    np.testing.assert_allclose(curve.confidence[filled], confidence, atol=1e-9)
    assert np.isnan(curve.accuracy[~filled]).all()
    assert np.isnan(curve.confidence[~filled]).all()
    assert curve.count.sum() == 500


def test_calibration_error_by_hand():
    # Bin (0.8, 1]: confidences 0.9, 1.0, one of two right; bin (0.4, 0.6]: 0.6, right.
    confidences, correct = np.array([0.9, 1.0, 0.6]), np.array([True, False, True])
    expected = 2 / 3 * abs(0.95 - 0.5) + 1 / 3 * abs(0.6 - 1.0)
    assert calibration_error(confidences, correct, equal_width_edges(5)) == pytest.approx(expected, abs=1e-12)


def test_bins_hold_their_upper_edge_and_the_first_also_zero():
    assert bin_numbers(np.array([0.0, 0.25, 0.26, 0.5, 1.0]), equal_width_edges(4)).tolist() == [0, 0, 1, 1, 3]


def test_equal_mass_bins_hold_equally_many_samples():
    confidences = np.random.default_rng(0).random(1500)
    curve = reliability(confidences, confidences > 0.5, equal_mass_edges(confidences))
    assert curve.count.sum() == 1500
    assert np.ptp(curve.count) <= 2


def test_equal_confidences_stay_in_one_bin():
    confidences = np.array([1.0] * 50 + [0.5] * 50)
    correct = np.arange(100) % 2 == 0
    error = calibration_error(confidences, correct, equal_mass_edges(confidences))
    assert error == pytest.approx(0.25, abs=1e-12)
    shuffled = np.random.default_rng(0).permutation(100)
    edges = equal_mass_edges(confidences[shuffled])
    assert calibration_error(confidences[shuffled], correct[shuffled], edges) == pytest.approx(error, abs=1e-12)


def test_weights_count_samples_as_often_as_they_say():
    confidences, correct = confidence_of(*random_case(1, num_samples=80))
    weights = np.random.default_rng(2).integers(0, 3, (2, 80)).astype(np.float64)
    found = weighted_calibration_error(weights, confidences, correct, equal_width_edges())
    for row, error in zip(weights.astype(int), found, strict=True):
        repeated = calibration_error(np.repeat(confidences, row), np.repeat(correct, row), equal_width_edges())
        assert error == pytest.approx(repeated, abs=1e-12)


def test_the_reflected_interval_holds_the_true_error_more_often_than_the_percentile_one():
    generator, edges, true_error = np.random.default_rng(0), equal_width_edges(), 0.03
    held = np.zeros(2)
    for trial in range(30):
        confidences = generator.beta(8, 2, 800)
        correct = generator.random(800) < np.maximum(confidences - true_error, 0)
        value = np.array([calibration_error(confidences, correct, edges)])

        def errors(weights, confidences=confidences, correct=correct):
            return weighted_calibration_error(weights, confidences, correct, edges)[:, None]

        resampled = bootstrap(errors, 800, num_resamples=100, seed=trial)
        for i, (low, high) in enumerate((reflected_interval(value, resampled), percentile_interval(resampled))):
            held[i] += low[0] <= true_error <= high[0]
    assert held[0] >= 0.7 * 30
    assert held[1] < 0.5 * held[0]


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 2.0, 8.0])
@SEEDS
def test_temperature_agrees_with_a_general_optimizer(seed, sharpness):
    probabilities, labels = random_case(seed, sharpness=sharpness)

    def loss(log_temperature):
        softened = softmax(log_probabilities(probabilities) / math.exp(log_temperature))
        return -np.log(softened[np.arange(len(labels)), labels]).mean()

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9})
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(math.exp(best.x), rel=1e-5)
    assert loss(math.log(temperature)) <= best.fun + 1e-12


def test_temperature_by_hand():
    # Logits (z, 0), right in 3 of 4: best where the softmax says 3/4, i.e. z / T = ln 3.
    z = 5.0
    probabilities = np.tile(softmax(np.array([[z, 0.0]])), (4, 1))
    assert fit_temperature(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(z / math.log(3), rel=1e-9)


def test_temperature_undoes_sharpening():
    probabilities, labels = random_case(0, num_samples=4000, sharpness=3.0)
    temperature = fit_temperature(probabilities, labels)
    assert temperature == pytest.approx(3.0, rel=0.1)
    before = calibration_error(*confidence_of(probabilities, labels), equal_width_edges())
    after = calibration_error(
        *confidence_of(apply_temperature(probabilities, temperature), labels), equal_width_edges()
    )
    assert after < before / 3


@pytest.mark.parametrize("labels", [[0, 1], [1, 0]], ids=["all right", "all wrong"])
def test_temperature_is_undefined_where_none_is_best(labels):
    probabilities = np.array([[0.8, 0.2], [0.3, 0.7]])
    assert math.isnan(fit_temperature(probabilities, np.array(labels)))


def test_temperature_one_changes_nothing_and_saturated_probabilities_stay_finite():
    probabilities, _ = random_case(0)
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities, atol=1e-12)
    saturated = np.array([[1.0, 0.0]] * 10, np.float32)
    temperature = fit_temperature(saturated, np.array([0] * 9 + [1]))
    assert temperature == pytest.approx(-math.log(np.finfo(np.float32).tiny) / math.log(9), rel=1e-9)
    assert np.isfinite(apply_temperature(saturated, temperature)).all()
