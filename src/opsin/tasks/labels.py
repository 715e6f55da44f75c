"""What tasks share whose images have one label each: the labels, the likeliest classes, shares and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsin.ops.intervals import wilson
from opsin.ops.losses import balancing_weights
from opsin.tasks.base import Parts
from opsin.tasks.targets import required
from opsin.types import JsonDict, Prediction, Score

if TYPE_CHECKING:
    from torch import Tensor

    from opsin.batches.batch import Batch
    from opsin.config import TrainConfig

NUM_TOP = 5
"""Largest number of classes named in a prediction."""


def batch_labels(batch: Batch) -> Tensor:
    """Labels of a batch, int64 [B].

    Raises:
        DataError: it has none.
    """
    do = "give a label for each image"
    return required(batch.labels, "the batch has no labels", expected="int64 [B]", do=do)


def likeliest(probabilities: NDArray[np.floating], classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The `NUM_TOP` likeliest of K classes with their probabilities [K]; stable.

    >>> likeliest(np.array([0.2, 0.5, 0.3]), ("a", "b", "c"))
    (('b', 0.5), ('c', 0.3), ('a', 0.2))
    """
    order = np.argsort(-probabilities, kind="stable")[:NUM_TOP]
    return tuple((str(classes[k]), float(probabilities[k])) for k in order)


def likeliest_class(shares: NDArray[np.floating], classes: Sequence[str]) -> Prediction:
    """The likeliest of K classes, and at most `NUM_TOP` of them with their probabilities [K]."""
    top = likeliest(shares, classes)
    return Prediction(file="", label=top[0][0], score=top[0][1], top=top, shares=tuple(shares.tolist()))


def label_weights(labels: NDArray[np.int64], num_classes: int, config: TrainConfig) -> Tensor | None:
    """Weights float32 [K] that balance the classes of training samples; None where `config` asks for none."""
    if not config.class_weights:
        return None
    return balancing_weights(np.bincount(labels, minlength=num_classes), config.class_weights_power)


def share_score(hits: int, total: int, *, intervals: bool = True) -> Score:
    """The score `hits / total`, with Wilson's 95 % interval if asked; undefined without samples.

    >>> print(share_score(8, 10))
    0.8000 [0.4902, 0.9433]
    """
    if total == 0:
        return Score(np.nan)
    if not intervals:
        return Score(hits / total)
    low, high = wilson(hits, total)
    return Score(hits / total, float(low), float(high))


def wrong_classes(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], classes: Sequence[str], ids: Sequence[str]
) -> list[JsonDict]:
    """Every sample whose likeliest class is wrong, most confident first: index, id, label, predicted, score.

    Args:
        probabilities: [N, K].
        labels: int64 [N].
        classes: K names.
        ids: N names.
    """
    predicted, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    rows = np.flatnonzero(predicted != labels)
    return [
        {
            "index": int(i),
            "id": str(ids[i]),
            "label": classes[labels[i]],
            "predicted": classes[predicted[i]],
            "score": float(scores[i]),
        }
        for i in rows[np.argsort(-scores[rows], kind="stable")]
    ]


def hits(right: NDArray[np.bool_]) -> Parts:
    """Hits and samples, and their ratio: `Task.parts` of a main score that is a share of samples."""
    rows = np.stack([right, np.ones_like(right)], axis=1).astype(np.float64)
    return rows, lambda sums: sums[:, 0] / sums[:, 1]
