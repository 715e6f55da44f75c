"""Scores: against scikit-learn and torchmetrics on random cases, and one case worked by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as torchmetrics
from sklearn import metrics

from opsin.errors import DataError
from opsin.ops import scores


def random_case(seed, num_samples=300, num_classes=7, absent=()):
    generator = np.random.default_rng(seed)
    labels = generator.choice([k for k in range(num_classes) if k not in absent], num_samples)
    logits = generator.normal(size=(num_samples, num_classes)) * 1.5
    logits[np.arange(num_samples), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, labels.astype(np.int64)


def counts_of_confusion(confusion):
    """The counts a second way: from rows, columns and the diagonal of the confusion matrix."""
    cells = confusion.astype(np.float64)
    return scores.ClassCounts(hits=np.diagonal(cells), support=cells.sum(axis=1), predicted=cells.sum(axis=0))


def counts_of(probabilities, labels):
    predicted = probabilities.argmax(axis=1)
    return counts_of_confusion(scores.confusion_matrix(labels, predicted, probabilities.shape[1]))


SEEDS = pytest.mark.parametrize("seed", range(8))


@SEEDS
def test_confusion_and_class_scores_agree_with_scikit_learn(seed):
    probabilities, labels = random_case(seed)
    predicted, counts = probabilities.argmax(axis=1), counts_of(probabilities, labels)
    confusion = scores.confusion_matrix(labels, predicted, 7)
    assert (confusion == metrics.confusion_matrix(labels, predicted)).all()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted)
    np.testing.assert_allclose(scores.precision(counts), precision, atol=1e-9)
    np.testing.assert_allclose(scores.recall(counts), recall, atol=1e-9)
    np.testing.assert_allclose(scores.f1(counts), f1, atol=1e-9)
    assert (counts.support == support).all()
    assert scores.accuracy(counts) == pytest.approx(metrics.accuracy_score(labels, predicted), abs=1e-9)
    balanced = metrics.balanced_accuracy_score(labels, predicted)
    assert scores.balanced_accuracy(counts) == pytest.approx(balanced, abs=1e-9)
    macro = metrics.f1_score(labels, predicted, average="macro")
    assert scores.class_mean(scores.f1(counts)) == pytest.approx(macro, abs=1e-9)


@SEEDS
def test_sums_over_samples_agree_with_scikit_learn(seed):
    probabilities, labels = random_case(seed)
    names = np.arange(7)
    expected = metrics.log_loss(labels, probabilities, labels=names)
    assert scores.log_losses(probabilities, labels).mean() == pytest.approx(expected, abs=1e-9)
    expected = metrics.brier_score_loss(labels, probabilities, labels=names, scale_by_half=False)
    assert scores.brier_losses(probabilities, labels).mean() == pytest.approx(expected, abs=1e-9)
    for k in (1, 2, 5):
        inside = (scores.true_class_rank(probabilities, labels) < k).mean()
        assert inside == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=k, labels=names), abs=1e-9)


@SEEDS
def test_class_scores_agree_with_torchmetrics(seed):
    probabilities, labels = random_case(seed)
    predicted, truth, counts = (
        torch.from_numpy(probabilities),
        torch.from_numpy(labels),
        counts_of(probabilities, labels),
    )
    for ours, theirs in (
        (scores.precision, torchmetrics.multiclass_precision),
        (scores.recall, torchmetrics.multiclass_recall),
        (scores.f1, torchmetrics.multiclass_f1_score),
    ):
        expected = theirs(predicted, truth, 7, average=None).double()
        np.testing.assert_allclose(ours(counts), expected, atol=1e-6)  # torchmetrics counts in float32


def test_an_absent_class_is_undefined_and_left_out_of_means():
    probabilities, labels = random_case(0, absent=(2, 5))
    predicted, counts = probabilities.argmax(axis=1), counts_of(probabilities, labels)
    assert (predicted == 2).any()
    for score in (scores.precision, scores.recall, scores.f1):
        assert np.isnan(score(counts)[[2, 5]]).all()
        assert not np.isnan(np.delete(score(counts), [2, 5])).any()
    present = [0, 1, 3, 4, 6]
    expected = metrics.f1_score(labels, predicted, average="macro", labels=present)
    assert scores.class_mean(scores.f1(counts)) == pytest.approx(expected, abs=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns that classes are missing
        expected = metrics.balanced_accuracy_score(labels, predicted)
    assert scores.balanced_accuracy(counts) == pytest.approx(expected, abs=1e-9)


def test_a_class_never_predicted_has_no_precision_but_an_f1_of_zero():
    counts = counts_of_confusion(np.array([[3, 0], [2, 0]]))
    assert np.isnan(scores.precision(counts)[1])
    assert scores.recall(counts)[1] == 0.0
    assert scores.f1(counts)[1] == 0.0
    expected = metrics.precision_score([0] * 3 + [1] * 2, [0] * 5, average="macro", zero_division=0)
    assert scores.macro_precision(counts) == pytest.approx(expected, abs=1e-12)


def test_scores_by_hand():
    # Truth 0 0 0 1 1 2, predicted 0 0 1 1 0 2.
    confusion = scores.confusion_matrix(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2]), 3)
    assert confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    counts = counts_of_confusion(confusion)
    assert scores.accuracy(counts) == pytest.approx(4 / 6)
    np.testing.assert_allclose(scores.precision(counts), [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(scores.recall(counts), [2 / 3, 1 / 2, 1])
    assert scores.balanced_accuracy(counts) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    half = np.array([[0.5, 0.25, 0.25]])
    assert scores.log_losses(half, np.array([1]))[0] == pytest.approx(math.log(4), abs=1e-12)
    assert scores.brier_losses(half, np.array([1]))[0] == pytest.approx(0.25 + 0.5625 + 0.0625, abs=1e-12)


def test_weights_count_samples_as_often_as_they_say():
    probabilities, labels = random_case(1, num_samples=60)
    weights = np.random.default_rng(5).integers(0, 4, (3, 60)).astype(np.float64)
    found = scores.weighted_counts(weights, labels, probabilities.argmax(axis=1), 7)
    for row in range(3):
        repeats = weights[row].astype(int)
        expected = counts_of(np.repeat(probabilities, repeats, axis=0), np.repeat(labels, repeats))
        for name in ("hits", "support", "predicted"):
            np.testing.assert_allclose(getattr(found, name)[row], getattr(expected, name))


def test_a_certain_and_right_prediction_costs_nothing_and_a_certain_wrong_one_is_finite():
    certain = np.array([[1.0, 0.0]], np.float32)
    assert scores.log_losses(certain, np.array([0]))[0] == 0.0
    assert scores.brier_losses(certain, np.array([0]))[0] == 0.0
    assert scores.log_losses(certain, np.array([1]))[0] == pytest.approx(-math.log(scores.SMALLEST_PROBABILITY))
    assert scores.brier_losses(certain, np.array([1]))[0] == 2.0


def test_ties_are_ranked_as_argmax_decides_them():
    ties = np.full((3, 3), 1 / 3)
    assert scores.true_class_rank(ties, np.array([0, 1, 2])).tolist() == [0, 1, 2]


def test_mistakes_come_most_confident_first():
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    assert scores.confident_mistakes(probabilities, np.array([1, 1, 1, 0]), 2).tolist() == [1, 3]
    assert scores.confident_mistakes(probabilities, np.array([0, 0, 1, 1]), 2).tolist() == []


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.full((2, 2), 0.5), np.array([0])),
        (np.full((0, 2), 0.5), np.array([], np.int64)),
        (np.array([[np.nan, 0.5]]), np.array([0])),
        (np.array([[1.5, -0.5]]), np.array([0])),
        (np.full((1, 2), 0.5), np.array([2])),
        (np.full((1, 2), 0.5), np.array([-1])),
    ],
    ids=["lengths", "empty", "nan", "range", "label too large", "label negative"],
)
def test_what_cannot_be_scored_is_refused(probabilities, labels):
    with pytest.raises(DataError):
        scores.check_predictions(probabilities, labels)
