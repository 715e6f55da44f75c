"""Scores of single classes: the only place of this package that distinguishes masks from labels.

Shapes: N samples, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opsin.comparison.outcomes import Outcomes
from opsin.data.samples import Samples
from opsin.ops.intervals import Floats, Ints
from opsin.ops.masks import images_with_class, iou


def class_values(outcomes: Outcomes, labels: NDArray[np.int64] | None, num_classes: int) -> Floats:
    """The main score within each class, float64 [K]; NaN for classes without samples.

    With labels: the share of the class's samples that are right. With masks: the IoU of its pixels.
    """
    if labels is None:
        confusion = outcomes.parts.sum(axis=0).reshape(1, num_classes, num_classes)
        return np.asarray(iou(confusion)[0], np.float64)
    total = np.bincount(labels, minlength=num_classes).astype(np.float64)
    hits = np.bincount(labels, weights=outcomes.parts[:, 0], minlength=num_classes)
    shares: Floats = np.divide(hits, total, out=np.full(num_classes, np.nan), where=total > 0)
    return shares


def class_counts(samples: Samples, rows: Ints, num_classes: int) -> Ints:
    """Number of the samples `rows` of each class, or that contain it: int64 [K]."""
    if samples.labels is not None:
        return np.bincount(samples.labels[rows], minlength=num_classes).astype(np.int64)
    assert samples.masks is not None  # a sample has a label or a mask
    return np.asarray(images_with_class(np.asarray(samples.masks)[rows], num_classes), np.int64)
