"""Scores of a split for classification, with intervals, and the details of its report.

Shapes: N samples, K classes, r resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from opsin.ops import calibration
from opsin.ops import scores as formulas
from opsin.ops.intervals import (
    Z_95,
    Floats,
    Ints,
    bootstrap,
    jackknife_quantiles,
    percentile_interval,
    reflected_interval,
    share_interval,
    wilson,
)
from opsin.tasks.labels import share_score
from opsin.types import JsonDict, Score, plain_number, plain_numbers, plain_score

NUM_TOP = 5
NUM_MISTAKES = 48
MANY_CLASSES = 1000
"""Of more classes the details name pairs that are confused instead of all, and these many of the classes that occur."""
NUM_PAIRS, NUM_ABSENT = 15, 20
FEW_OF_A_CLASS = 10
"""With fewer samples of a class, the standard error of a mean over classes is itself uncertain."""

_MEANS = ("balanced_accuracy", "macro_precision", "macro_recall", "macro_f1")
_ERRORS = ("loss", "brier")
_CALIBRATION = ("ece", "adaptive_ece")


@dataclass(frozen=True, kw_only=True)
class _Outcomes:
    """Per-sample values behind the scores; all [N] except the classes and the edges.

    `classes`: int64 [k], those that are counted: all, or of many those that occur, as no score depends on the others.
    `labels`, `predicted`: numbers among these, -1 for a predicted class that does not occur.
    """

    classes: Ints
    labels: Ints
    predicted: Ints
    confidences: NDArray[np.floating]
    log_losses: Floats
    brier_losses: Floats
    adaptive_edges: Floats

    @classmethod
    def of(cls, probabilities: NDArray[np.floating], labels: Ints) -> _Outcomes:
        confidences, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1).astype(np.int64)
        log_losses = formulas.log_losses(probabilities, labels)
        classes = np.arange(probabilities.shape[1])
        if len(classes) > MANY_CLASSES:
            classes, labels = np.unique(labels, return_inverse=True)
            places = np.minimum(np.searchsorted(classes, predicted), len(classes) - 1)
            predicted = np.where(classes[places] == predicted, places, -1)
        return cls(
            classes=classes,
            labels=labels,
            predicted=predicted,
            confidences=confidences,
            log_losses=log_losses,
            brier_losses=formulas.in_blocks(formulas.brier_losses, probabilities, labels),
            adaptive_edges=calibration.equal_mass_edges(confidences),
        )

    def counts(self, weights: Floats) -> formulas.ClassCounts:
        return formulas.weighted_counts(weights, self.labels, self.predicted, len(self.classes))

    def quantiles(self) -> Floats | float:
        """Quantiles for the intervals of `_MEANS`: Student's for classes with few samples."""
        support = np.bincount(self.labels)
        if support[support > 0].min() >= FEW_OF_A_CLASS:
            return Z_95
        return jackknife_quantiles(lambda weights: self.summary(weights)[:, : len(_MEANS)], len(self.labels))

    def summary(self, weights: Floats) -> Floats:
        """The scores without a closed interval, float64 [r, 8], in the order `_MEANS`, `_ERRORS`, `_CALIBRATION`."""
        counts, total = self.counts(weights), weights.sum(axis=1)
        recall = formulas.balanced_accuracy(counts)
        means = (
            recall,
            formulas.macro_precision(counts),
            recall,
            formulas.class_mean(formulas.f1(counts)),
        )
        errors = (weights @ self.log_losses / total, weights @ self.brier_losses / total)
        correct = self.predicted == self.labels
        gap = partial(calibration.weighted_calibration_error, weights, self.confidences, correct)
        gaps = (gap(calibration.equal_width_edges()), gap(self.adaptive_edges))
        return np.stack([*means, *errors, *gaps], axis=1)


def classification_scores(
    probabilities: NDArray[np.floating], labels: Ints, *, intervals: bool = True
) -> dict[str, Score]:
    """Every score of a split, with 95 % intervals if asked: Wilson's for shares of samples and their means, else
    the bootstrap's percentiles.

    Args:
        probabilities: floating [N, K].
        labels: int64 [N].
    """
    outcomes = _Outcomes.of(probabilities, labels)
    num_samples, num_classes = probabilities.shape
    found = {"accuracy": share_score(int((outcomes.predicted == labels).sum()), num_samples, intervals=intervals)}
    if num_classes > NUM_TOP:
        inside = formulas.in_blocks(formulas.true_class_rank, probabilities, labels) < NUM_TOP
        found["top5"] = share_score(int(inside.sum()), num_samples, intervals=intervals)
    names = (*_MEANS, *_ERRORS, *_CALIBRATION)
    values = outcomes.summary(np.ones((1, num_samples)))[0]
    if not intervals:
        return found | {name: Score(float(value)) for name, value in zip(names, values, strict=True)}
    resampled = bootstrap(outcomes.summary, num_samples)
    low, high = percentile_interval(resampled)
    shares, first = len(_MEANS), len(_MEANS) + len(_ERRORS)
    low[:shares], high[:shares] = share_interval(
        values[:shares], resampled[:, :shares], num_samples, num_samples=num_samples, quantile=outcomes.quantiles()
    )
    low[first:], high[first:] = reflected_interval(values[first:], resampled[:, first:])
    return found | {name: Score(*map(float, row)) for name, *row in zip(names, values, low, high, strict=True)}


def class_scores(probabilities: NDArray[np.floating], labels: Ints, classes: Sequence[str]) -> list[JsonDict]:
    """Precision, recall and F1 of each class with intervals, and its number of samples, as plain JSON.

    Of more than `MANY_CLASSES` those that occur most often.
    """
    outcomes = _Outcomes.of(probabilities, labels)
    counts = outcomes.counts(np.ones((1, len(labels))))
    shown = np.sort(np.argsort(-counts.support[0], kind="stable")[:MANY_CLASSES])
    hits, support, predicted = (part[0, shown] for part in (counts.hits, counts.support, counts.predicted))
    precision, recall, f1 = (score(counts)[0, shown] for score in (formulas.precision, formulas.recall, formulas.f1))
    resampled = bootstrap(lambda weights: formulas.f1(outcomes.counts(weights)).take(shown, axis=1), len(labels))
    columns = {
        "precision": (precision, *wilson(hits, np.where(support > 0, predicted, 0))),
        "recall": (recall, *wilson(hits, support)),
        "f1": (f1, *share_interval(f1, resampled, support, num_samples=len(labels))),
    }
    return [
        {"class": str(classes[outcomes.classes[place]])}
        | {key: plain_score(Score(*(float(part[k]) for part in column))) for key, column in columns.items()}
        | {"support": int(support[k])}
        for k, place in enumerate(shown)
    ]


def classification_details(
    probabilities: NDArray[np.floating],
    labels: Ints,
    classes: Sequence[str],
    ids: Sequence[str],
    *,
    temperature: float,
) -> JsonDict:
    """Details of the report, as plain JSON; None for undefined.

    Args:
        probabilities: floating [N, K].
        labels: int64 [N].
        classes: K names.
        ids: N names.
        temperature: fitted on val; NaN without an optimum.
    """
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    own, absent = probabilities[np.arange(len(labels)), labels], np.setdiff1d(np.arange(len(classes)), labels)
    named = absent[:NUM_ABSENT] if len(classes) > MANY_CLASSES else absent
    return _confusion(labels, predicted, classes) | {
        "per_class": class_scores(probabilities, labels, classes),
        "absent_classes": [str(classes[k]) for k in named],
        "reliability": _reliability(confidences, predicted == labels),
        "chance": chance(labels, len(classes)),
        "temperature": plain_number(temperature),
        "ece_after_temperature": plain_number(_ece_after(probabilities, labels, temperature)),
        "losses_floored": int((own < formulas.SMALLEST_PROBABILITY).sum()),
        "mistakes": [
            {
                "index": int(i),
                "id": str(ids[i]),
                "truth": str(classes[labels[i]]),
                "predicted": str(classes[predicted[i]]),
                "confidence": float(confidences[i]),
            }
            for i in formulas.confident_mistakes(probabilities, labels, NUM_MISTAKES)
        ],
    }


def _confusion(labels: Ints, predicted: Ints, classes: Sequence[str]) -> JsonDict:
    """The confusion matrix; of many classes the pairs that are confused most."""
    if len(classes) <= MANY_CLASSES:
        return {"confusion": formulas.confusion_matrix(labels, predicted, len(classes)).tolist()}
    pairs = formulas.confused_pairs(labels, predicted, NUM_PAIRS)
    return {
        "confused": [
            {"truth": str(classes[i]), "predicted": str(classes[j]), "images": count, "share": share}
            for i, j, count, share in pairs
        ],
        "wrong": int((labels != predicted).sum()),
        "images": len(labels),
    }


def chance(labels: Ints, num_classes: int) -> JsonDict:
    """Accuracy of always predicting the most frequent class of labels [N], and of guessing, as plain JSON."""
    value = float(np.bincount(labels).max() / len(labels))
    by = f"always the most frequent class (1 in {num_classes} classes is {1 / num_classes:.4f})"
    return {"value": value, "by": by, "one_in_classes": 1 / num_classes}


def _reliability(confidences: NDArray[np.floating], correct: NDArray[np.bool_]) -> JsonDict:
    """The reliability curve as plain JSON, with 95 % intervals of the accuracy in each bin."""
    curve = calibration.reliability(confidences, correct, calibration.equal_width_edges())
    low, high = wilson(np.rint(np.nan_to_num(curve.accuracy) * curve.count), curve.count)
    return {
        "edges": curve.edges.tolist(),
        "confidence": plain_numbers(curve.confidence),
        "accuracy": plain_numbers(curve.accuracy),
        "low": plain_numbers(low),
        "high": plain_numbers(high),
        "count": curve.count.tolist(),
    }


def _ece_after(probabilities: NDArray[np.floating], labels: Ints, temperature: float) -> float:
    if np.isnan(temperature):
        return np.nan

    def softened(rows: NDArray[np.floating], _: Ints) -> Floats:
        highest: Floats = calibration.apply_temperature(rows, temperature).max(axis=1)
        return highest

    correct = probabilities.argmax(axis=1) == labels  # a temperature changes no decision
    confidences = formulas.in_blocks(softened, probabilities, labels)
    return calibration.calibration_error(confidences, correct, calibration.equal_width_edges())
