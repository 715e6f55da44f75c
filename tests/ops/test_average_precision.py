"""Average precision and the threshold of the best F1 agree with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from opsin.ops.average_precision import average_precision, best_threshold, class_average_precisions


def scores_and_truth(seed: int, *, decimals: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.random(60) < 0.3
    return (truth * 0.3 + generator.random(60)).round(decimals), truth


def test_average_precision_by_hand():
    # found at ranks 1 and 3: (1/1 + 2/3) / 2
    assert average_precision(np.array([0.9, 0.5, 0.4]), np.array([True, False, True]))[0] == pytest.approx(5 / 6)


@pytest.mark.parametrize("decimals", [9, 1])
def test_average_precision_is_that_of_scikit_learn_with_equal_scores_and_weights(decimals: int):
    scores, truth = scores_and_truth(0, decimals=decimals)
    assert average_precision(scores, truth)[0] == pytest.approx(average_precision_score(truth, scores))
    weights = np.random.default_rng(1).integers(0, 4, (5, 60)).astype(float)
    expected = [average_precision_score(truth, scores, sample_weight=row) for row in weights]
    assert average_precision(scores, truth, weights).tolist() == pytest.approx(expected)


def test_what_is_never_there_has_no_average_precision():
    assert np.isnan(average_precision(np.array([0.2, 0.4]), np.array([False, False]))).all()


def test_pairs_of_a_sample_and_a_class_count_as_often_as_the_sample():
    generator = np.random.default_rng(2)
    scores, truth = generator.random((20, 3)), generator.random((20, 3)) < 0.4
    weights = generator.integers(0, 3, (4, 20)).astype(float)
    pairs = np.repeat(np.arange(20), 3)
    expected = [
        average_precision_score(truth.ravel(), scores.ravel(), sample_weight=np.repeat(row, 3)) for row in weights
    ]
    assert average_precision(scores.ravel(), truth.ravel(), weights, samples=pairs).tolist() == pytest.approx(expected)


def test_classes_are_scored_each_by_itself():
    scores, truth = np.random.default_rng(3).random((30, 4)), np.random.default_rng(4).random((30, 4)) < 0.5
    expected = average_precision_score(truth, scores, average=None)
    assert class_average_precisions(scores, truth)[0].tolist() == pytest.approx(list(expected))


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_better_f1_than_the_best(seed: int):
    scores, truth = scores_and_truth(seed)
    best = f1_score(truth, scores >= best_threshold(scores, truth))
    assert best == pytest.approx(max(f1_score(truth, scores >= cut) for cut in scores))


def test_a_class_without_samples_has_no_threshold():
    assert np.isnan(best_threshold(np.array([0.1, 0.9]), np.array([False, False])))
