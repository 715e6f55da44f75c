"""Scores of classification: counts first, then formulas of counts. numpy, float64.

An undefined score is NaN: the recall of a class that does not occur, the precision of one that was never predicted.
Averages over classes leave out what is undefined, but for precision: what occurs and was never predicted counts 0.
Formulas take leading axes, so a bootstrap is one call.

Shapes: N samples, K classes, `...` any leading axes (resamples).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.errors import DataError
from opsin.ops.intervals import Floats, Ints, group_sums

SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""A float32 softmax can round to 0; its logarithm is taken here instead (a loss of 87.3, not infinity)."""

Value = TypeVar("Value", bound=np.generic)
BLOCK_ELEMENTS = 1 << 24
"""Probabilities that are worked on at once: with very many classes, a copy of all would not fit into memory."""


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """What precision, recall and F1 are made of: float64 [..., K] each.

    `hits` counts samples of the class that were predicted as it, `support` samples of the class, `predicted` samples
    that were predicted as it.
    """

    hits: Floats
    support: Floats
    predicted: Floats


def check_predictions(probabilities: NDArray[np.floating], labels: Ints, classes: Sequence[str] | None = None) -> None:
    """Refuse predictions and labels that cannot be scored.

    Args:
        probabilities: floating [N, K], N >= 1.
        labels: int64 [N], 0 to K - 1.
        classes: K names, where they are known.

    Raises:
        DataError: the lengths disagree, there are no samples, a probability is NaN or outside [0, 1], or a label is
            outside the classes.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(labels) or len(labels) == 0:
        got = f"probabilities {list(probabilities.shape)}, labels {list(labels.shape)}"
        raise DataError("predictions and labels do not match", got=got, expected="[N, K] and [N], N >= 1")
    wrong = ~((probabilities >= -1e-6) & (probabilities <= 1 + 1e-6)).all(axis=1)
    if wrong.any():
        i = int(wrong.argmax())
        raise DataError(
            "a prediction is not a probability",
            where=f"sample {i}",
            got=probabilities[i].tolist(),
            expected="numbers from 0 to 1",
            do="look for NaN in the network's weights",
        )
    num_classes = probabilities.shape[1]
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        i = int(outside.argmax())
        raise DataError("a label is outside the classes", where=f"sample {i}", got=labels[i], expected=num_classes)
    if classes is not None and num_classes != len(classes):
        got, expected = f"{num_classes} columns", f"{len(classes)} classes"
        raise DataError("the predictions are of other classes", got=got, expected=expected)


def confusion_matrix(labels: Ints, predicted: Ints, num_classes: int) -> Ints:
    """How often a class was taken for which: int64 [K, K], rows are true classes, columns predicted ones.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    cells = np.bincount(labels * num_classes + predicted, minlength=num_classes * num_classes)
    return cells.astype(np.int64).reshape(num_classes, num_classes)


def confused_pairs(labels: Ints, predicted: Ints, limit: int) -> list[tuple[int, int, int, float]]:
    """Most frequent mistakes as (true class, predicted class, samples, share of the true class), at most `limit`.

    As the largest cells of a confusion matrix off its diagonal, for more classes than a matrix has room for.

    >>> confused_pairs(np.array([0, 0, 5]), np.array([0, 9, 9]), 1)
    [(0, 9, 1, 0.5)]
    """
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    support = np.bincount(labels)
    found = [(int(i), int(j), int(n), float(n / support[i])) for (i, j), n in zip(pairs, counts, strict=True)]
    return sorted(found, key=lambda pair: (-pair[2], -pair[3], pair[:2]))[:limit]


def in_blocks(
    of_rows: Callable[[NDArray[np.floating], Ints], NDArray[Value]], probabilities: NDArray[np.floating], labels: Ints
) -> NDArray[Value]:
    """`of_rows` of all samples, some at a time: what it gives for a sample depends on that sample alone.

    Args:
        of_rows: of probabilities [n, K] and labels [n], any array of n rows.
        probabilities: floating [N, K], N >= 1.
        labels: int64 [N].
    """
    rows = max(1, BLOCK_ELEMENTS // probabilities.shape[1])
    starts = range(0, len(labels), rows)
    return np.concatenate([of_rows(probabilities[i : i + rows], labels[i : i + rows]) for i in starts])


def weighted_counts(weights: Floats, labels: Ints, predicted: Ints, num_classes: int) -> ClassCounts:
    """Counts of each class where sample i counts `weights[..., i]` times.

    Args:
        weights: float64 [r, N].
        labels: int64 [N].
        predicted: int64 [N]; a negative number is none of the classes.

    Returns:
        Counts [r, K].
    """
    return ClassCounts(
        hits=group_sums(weights, np.where(labels == predicted, labels, -1), num_classes),
        support=group_sums(weights, labels, num_classes),
        predicted=group_sums(weights, predicted, num_classes),
    )


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """`numerator / denominator`, NaN where the denominator is 0."""
    return numerator / np.where(denominator > 0, denominator, np.nan)


def accuracy(counts: ClassCounts) -> Floats:
    """Share of samples that were predicted right, [...]."""
    return ratio(counts.hits.sum(axis=-1), counts.support.sum(axis=-1))


def recall(counts: ClassCounts) -> Floats:
    """Share of a class's samples that were found, [..., K]; NaN for a class that does not occur."""
    return ratio(counts.hits, counts.support)


def precision(counts: ClassCounts) -> Floats:
    """Share of a class's predictions that were right, [..., K].

    NaN for a class that was never predicted, and for one that does not occur: there it could only be 0, whatever the
    network does.
    """
    return np.where(counts.support > 0, ratio(counts.hits, counts.predicted), np.nan)


def f1(counts: ClassCounts) -> Floats:
    """Harmonic mean of precision and recall, 2 hits / (support + predicted), [..., K].

    0 for a class that occurs and was never found; NaN for a class that does not occur.
    """
    return np.where(counts.support > 0, ratio(2 * counts.hits, counts.support + counts.predicted), np.nan)


def class_mean(values: Floats) -> Floats:
    """Mean over the classes (last axis) for which the score is defined; NaN where it is for none."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


def balanced_accuracy(counts: ClassCounts) -> Floats:
    """Mean recall over the classes that occur, [...]."""
    return class_mean(recall(counts))


def macro_precision(counts: ClassCounts) -> Floats:
    """Mean precision over the classes that occur, [...]; one that was never predicted counts 0.

    Left out, it would make a network that names one class alone look better than one that tries them all.
    """
    return class_mean(np.where(counts.support > 0, np.nan_to_num(precision(counts)), np.nan))


def true_class_rank(probabilities: NDArray[np.floating], labels: Ints) -> Ints:
    """Place of the true class among the classes, 0 for the likeliest. Ties go to the lower class, as in argmax.

    Args:
        probabilities: floating [N, K].
        labels: int64 [N].

    Returns:
        int64 [N], 0 to K - 1.
    """
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    lower_class = np.arange(probabilities.shape[1])[None] < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & lower_class)
    rank: Ints = ahead.sum(axis=1, dtype=np.int64)
    return rank


def log_losses(probabilities: NDArray[np.floating], labels: Ints) -> Floats:
    """Negative log likelihood of the true class, in nats, for each sample: float64 [N].

    Probabilities under `SMALLEST_PROBABILITY` count as that.
    """
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    # 0.0 - x: a certain and right prediction costs 0, not -0.
    return 0.0 - np.log(np.maximum(own, SMALLEST_PROBABILITY))


def brier_losses(probabilities: NDArray[np.floating], labels: Ints) -> Floats:
    """Squared distance between the probabilities and the one-hot label, for each sample: float64 [N], 0 to 2.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability", equation 2.
    """
    wide = probabilities.astype(np.float64)
    own = np.take_along_axis(wide, labels[:, None], axis=1)[:, 0]
    squares: Floats = np.einsum("nk,nk->n", wide, wide)
    # (1 - p)² + the other squares; written out so that a certain and right prediction gives exactly 0.
    return np.square(1 - own) + np.maximum(squares - np.square(own), 0.0)


def confident_mistakes(probabilities: NDArray[np.floating], labels: Ints, limit: int) -> Ints:
    """Numbers of the wrongly predicted samples, the most confident first, at most `limit`: int64 [m]."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1, initial=0.0)
    return wrong[np.argsort(-confidence, kind="stable")[:limit]]
