"""How well masks agree: pixel accuracy, IoU, Dice, boundary F1. numpy.

Every score is a function of counts that add up over images. So a split is scored as one: neither the size nor the
order of batches can change a score, and a bootstrap over images is a matrix product.

    masks, truth -> confusion [N, K, K] ──> sum over images (or weighted sums [r, K, K]) -> iou, dice, ...
                 -> edges     [N, K, 4] ──> sum over images (or weighted sums [r, K, 4]) -> precision, recall, F1

Shapes: N images, K classes, H height, W width; leading dimensions `...` are resamples. Void pixels of the truth (255)
count nowhere. A score of a class that lies neither in the truth nor in the prediction is NaN, and no mean counts it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.errors import DataError
from opsin.types import VOID

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EDGE_TOLERANCE = 0.0075
"""How far apart matching edges may lie, as a share of the image's diagonal. Source: Csurka et al. 2013, section 3."""


def check_masks(masks: Bytes, truth: Bytes, num_classes: int) -> None:
    """Refuse masks that cannot be scored.

    Args:
        masks: predicted classes, uint8 [N, H, W], 0 to K - 1.
        truth: uint8 [N, H, W], 0 to K - 1 or void.

    Raises:
        DataError: shapes differ, or a value names no class.
    """
    if masks.shape != truth.shape or masks.ndim != 3:
        raise DataError("masks do not match their truth", got=masks.shape, expected=f"{truth.shape}, [N, H, W]")
    for name, values in (("predicted", masks), ("true", np.where(truth == VOID, 0, truth))):
        if values.size and int(values.max()) >= num_classes:
            wrong = sorted({int(v) for v in np.unique(values) if v >= num_classes})
            raise DataError(
                f"{name} masks hold values that name no class",
                got=", ".join(map(str, wrong[:10])),
                expected=f"0 to {num_classes - 1}, or {VOID} for void",
            )


def confusions(masks: Bytes, truth: Bytes, num_classes: int) -> Ints:
    """Pixels by true class (rows) and predicted class (columns), for each image: int64 [N, K, K].

    >>> confusions(np.array([[[0, 1, 1]]], np.uint8), np.array([[[0, 0, 255]]], np.uint8), 2)
    array([[[1, 1],
            [0, 0]]])

    Args:
        masks: uint8 [N, H, W], 0 to K - 1.
        truth: uint8 [N, H, W], 0 to K - 1 or void.
    """
    counts = np.zeros((len(masks), num_classes, num_classes), np.int64)
    for i, (predicted, true) in enumerate(zip(masks, truth, strict=True)):
        # void is one more row, which is left out: cheaper than picking pixels
        rows = np.minimum(true, num_classes).astype(np.int64)
        pairs = np.bincount((rows * num_classes + predicted).ravel(), minlength=(num_classes + 1) * num_classes)
        counts[i] = pairs.reshape(num_classes + 1, num_classes)[:num_classes]
    return counts


def images_with_class(masks: Bytes, num_classes: int) -> Ints:
    """How many of the masks, uint8 [N, H, W], hold each class: int64 [K]."""
    counts = np.zeros(num_classes, np.int64)
    for mask in masks:
        counts += np.bincount(mask.ravel(), minlength=256)[:num_classes] > 0
    return counts


def pixel_accuracy(confusion: NDArray[np.number]) -> Floats:
    """Share of the pixels that are right: float64 [...] of counts [..., K, K]."""
    return _ratio(_right(confusion).sum(-1), confusion.sum((-2, -1)))


def iou(confusion: NDArray[np.number]) -> Floats:
    """Intersection over union of each class, TP / (TP + FP + FN): float64 [..., K] of counts [..., K, K].

    >>> iou(np.array([[3, 1], [0, 4]]))
    array([0.75, 0.8 ])

    Source: Jaccard 1912, "The distribution of the flora in the alpine zone".
    """
    right = _right(confusion)
    return _ratio(right, confusion.sum(-1) + confusion.sum(-2) - right)


def dice(confusion: NDArray[np.number]) -> Floats:
    """Dice of each class, 2 TP / (2 TP + FP + FN), which is its F1: float64 [..., K] of counts [..., K, K].

    Source: Dice 1945, "Measures of the amount of ecologic association between species".
    """
    return _ratio(2 * _right(confusion), confusion.sum(-1) + confusion.sum(-2))


def precision(confusion: NDArray[np.number]) -> Floats:
    """Share of the pixels predicted as a class that are of it: float64 [..., K]."""
    return _ratio(_right(confusion), confusion.sum(-2))


def mean_precision(confusion: NDArray[np.number]) -> Floats:
    """Mean precision over the classes: float64 [...] of counts [..., K, K].

    A class that occurs and was never predicted counts 0; one that neither occurs nor was predicted is left out.
    """
    values = precision(confusion)
    return class_mean(np.where(confusion.sum(-1) > 0, np.nan_to_num(values), values))


def recall(confusion: NDArray[np.number]) -> Floats:
    """Share of the pixels of a class that are predicted as it: float64 [..., K]."""
    return _ratio(_right(confusion), confusion.sum(-1))


def frequency_weighted_iou(confusion: NDArray[np.number]) -> Floats:
    """IoU of the classes, each weighed by its share of the true pixels: float64 [...] of counts [..., K, K].

    Source: Long et al. 2015, arXiv 1411.4038, section 5.
    """
    true = confusion.sum(-1)
    return _ratio((true * np.nan_to_num(iou(confusion))).sum(-1), true.sum(-1))


def foreground(confusion: NDArray[np.number]) -> NDArray[np.number]:
    """The counts of "class 0 or any other": [..., 2, 2] of counts [..., K, K]."""
    inside = confusion[..., 1:, 1:].sum((-2, -1))
    missed, invented = confusion[..., 1:, 0].sum(-1), confusion[..., 0, 1:].sum(-1)
    rows = ([confusion[..., 0, 0], invented], [missed, inside])
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def class_mean(scores: Floats) -> Floats:
    """Mean over the classes for which a score is defined: float64 [...] of [..., K]; NaN where none is."""
    defined = ~np.isnan(scores)
    return _ratio(np.where(defined, scores, 0.0).sum(-1), defined.sum(-1))


def edge_tolerance(height: int, width: int) -> int:
    """How many pixels apart matching edges may lie in images of this size.

    >>> edge_tolerance(240, 320)
    3
    """
    return max(1, round(EDGE_TOLERANCE * math.hypot(height, width)))


def edge_counts(masks: Bytes, truth: Bytes, num_classes: int, *, tolerance: int) -> Ints:
    """What the boundary scores are made of: int64 [N, K, 4].

    The four are: predicted edge pixels that lie within `tolerance` of a true edge of the class; all predicted edge
    pixels; true edge pixels within `tolerance` of a predicted edge; all true edge pixels.

    An edge pixel of a class has a neighbour above, below, left or right of another class. Labels draw a band of void
    around objects, so each void pixel first takes the class next to it, up to `tolerance` pixels deep: the edge runs
    in the middle of the band. What is void then has no edges, in the prediction either.

    Args:
        masks: uint8 [N, H, W], 0 to K - 1.
        truth: uint8 [N, H, W], 0 to K - 1 or void.
        tolerance: in pixels, Euclidean.
    """
    counts = np.zeros((len(masks), num_classes, 4), np.int64)
    truth = fill_void(truth, tolerance)
    masks = np.where(truth == VOID, np.uint8(VOID), masks)
    predicted_edges, true_edges = edges(masks), edges(truth)
    for k in range(num_classes):
        present = np.flatnonzero((masks == k).any((1, 2)) | (truth == k).any((1, 2)))
        predicted = predicted_edges[present] & (masks[present] == k)
        true = true_edges[present] & (truth[present] == k)
        parts = (predicted & widened(true, tolerance), predicted, true & widened(predicted, tolerance), true)
        counts[present, k] = np.stack([part.sum((1, 2)) for part in parts], axis=1)
    return counts


def boundary_scores(counts: NDArray[np.number]) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of the edges of each class: float64 [..., K] each, of counts [..., K, 4].

    F1 is 0 where only one of the two has edges, and NaN where neither has.

    Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?", section 3; here over
        the edges of all images at once.
    """
    hit, predicted, found, true = np.moveaxis(counts.astype(np.float64), -1, 0)
    exact, whole = _ratio(hit, predicted), _ratio(found, true)
    product, total = np.nan_to_num(exact) * np.nan_to_num(whole), np.nan_to_num(exact) + np.nan_to_num(whole)
    f1 = np.where(total > 0, 2 * product / np.where(total > 0, total, 1.0), 0.0)
    return exact, whole, np.where(predicted + true > 0, f1, np.nan)


def edges(masks: Bytes) -> NDArray[np.bool_]:
    """Pixels with a neighbour of another class, bool [N, H, W]; void pixels are neither edges nor neighbours."""
    found = np.zeros(masks.shape, bool)
    for axis in (1, 2):
        low, high = _halves(masks, axis)
        differ = (low != high) & (low != VOID) & (high != VOID)
        for half in _halves(found, axis):
            np.logical_or(half, differ, out=half)
    return found


def fill_void(masks: Bytes, depth: int) -> Bytes:
    """Void pixels at most `depth` steps from a class get it: uint8 [N, H, W]; above and left go before below and right.

    The masks themselves where nothing is void.
    """
    if not (masks == VOID).any():
        return masks
    filled = masks.copy()
    for _ in range(depth):
        before = filled.copy()
        for axis in (1, 2):
            old_low, old_high = _halves(before, axis)
            new_low, new_high = _halves(filled, axis)
            np.copyto(new_high, old_low, where=new_high == VOID)
            np.copyto(new_low, old_high, where=new_low == VOID)
    return filled


def widened(pixels: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Pixels within `radius` (Euclidean) of a pixel that is set: bool [N, H, W]."""
    H, W = pixels.shape[1:]
    spread = np.zeros_like(pixels)
    for down in range(min(radius, H - 1) + 1):
        reach = min(math.isqrt(radius * radius - down * down), W - 1)
        row = pixels.copy()
        for right in range(1, reach + 1):
            row[:, :, right:] |= pixels[:, :, : W - right]
            row[:, :, : W - right] |= pixels[:, :, right:]
        spread[:, down:] |= row[:, : H - down]
        spread[:, : H - down] |= row[:, down:]
    return spread


def _halves(array: Array, axis: int) -> tuple[Array, Array]:
    """All but the last, and all but the first, along an axis of [N, H, W]: views of neighbours."""
    if axis == 1:
        return array[:, :-1], array[:, 1:]
    return array[:, :, :-1], array[:, :, 1:]


def _right(confusion: NDArray[np.number]) -> NDArray[np.number]:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    """part / whole, NaN where the whole is 0."""
    shares: Floats = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=shares, where=np.asarray(whole) > 0)
    return shares
