"""Scores of a split for localization, with intervals, and the details of its report.

Every score is a mean or median over the samples of the split, never over batches, so that it does not depend on batch
size or order.

Shapes: N samples, K classes, r resamples, T thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.ops import boxes as box_ops
from opsin.ops import scores as formulas
from opsin.ops.intervals import Floats, Ints, bootstrap, percentile_interval, share_interval, wilson
from opsin.tasks.labels import share_score
from opsin.types import JsonDict, Score, plain_number, plain_numbers, plain_score

GOOD_IOU = 0.6
"""Default least IoU of a good box."""
THRESHOLDS = np.round(np.arange(0.0, 1.0001, 0.05), 2)
"""Thresholds of the curve, float64 [T]."""
NUM_SHOWN = 16
"""Samples of each kind in the gallery: best, worst, random."""
RESAMPLED = ("mean_iou", "median_iou", "centre_error_px", "size_error_px")


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Per-sample values behind the scores and details.

    `boxes`, `true_boxes`: [N, 4], xyxy in pixels of the packed images. All others are [N]: `log_losses` in nats,
    `centre_errors` and `size_errors` in those pixels.
    """

    labels: Ints
    predicted: Ints
    confidences: NDArray[np.floating]
    log_losses: Floats
    boxes: NDArray[np.floating]
    true_boxes: NDArray[np.floating]
    iou: Floats
    centre_errors: Floats
    size_errors: Floats

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.floating],
        boxes: NDArray[np.floating],
        labels: Ints,
        true_boxes: NDArray[np.floating],
    ) -> Outcomes:
        """Outcomes of probabilities [N, K] and boxes [N, 4] against labels [N] and true boxes [N, 4]."""
        wide, true = boxes.astype(np.float64), true_boxes.astype(np.float64)
        return cls(
            labels=labels,
            predicted=probabilities.argmax(axis=1).astype(np.int64),
            confidences=probabilities.max(axis=1),
            log_losses=formulas.log_losses(probabilities, labels),
            boxes=boxes,
            true_boxes=true_boxes,
            iou=box_ops.iou(wide, true),
            centre_errors=box_ops.centre_errors(wide, true),
            size_errors=box_ops.size_errors(wide, true),
        )

    @property
    def right(self) -> NDArray[np.bool_]:
        """Samples with the right class, bool [N]."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    def resampled(self, weights: Floats) -> Floats:
        """The scores of `RESAMPLED`, float64 [r, 4], of samples drawn `weights` [r, N] times."""
        total = weights.sum(axis=1)
        means = {
            "mean_iou": weights @ self.iou / total,
            "median_iou": weighted_median(self.iou, weights),
            "centre_error_px": weights @ self.centre_errors / total,
            "size_error_px": weights @ self.size_errors / total,
        }
        return np.stack([means[name] for name in RESAMPLED], axis=1)


def localization_scores(outcomes: Outcomes, *, threshold: float = GOOD_IOU, intervals: bool = True) -> dict[str, Score]:
    """Every score of a split, with 95 % intervals if asked: Wilson's for shares of samples, else the bootstrap."""
    good, count = outcomes.iou >= threshold, len(outcomes.iou)
    shares = {
        "accuracy": outcomes.right,
        "good_boxes": good,
        "joint_accuracy": outcomes.right & good,
    }
    found = {name: share_score(int(hits.sum()), count, intervals=intervals) for name, hits in shares.items()}
    values = outcomes.resampled(np.ones((1, count)))[0]
    if not intervals:
        return found | {name: Score(float(value)) for name, value in zip(RESAMPLED, values, strict=True)}
    resampled = bootstrap(outcomes.resampled, count)
    ends = np.stack(percentile_interval(resampled))
    ends[:, :1] = share_interval(values[:1], resampled[:, :1], count, num_samples=count)  # the mean IoU
    return found | {name: Score(*map(float, row)) for name, *row in zip(RESAMPLED, values, *ends, strict=True)}


def localization_details(
    outcomes: Outcomes,
    classes: Sequence[str],
    ids: Sequence[str],
    *,
    threshold: float,
    image_size: tuple[int, int] | None,
) -> JsonDict:
    """Details of the report, as plain JSON; None for undefined.

    `mistakes` are the pictures of the gallery (best, worst and random boxes, each marked): the key is the same in
    every run folder.
    """
    good = outcomes.iou >= threshold
    return {
        "threshold": threshold,
        "image_size": None if image_size is None else list(image_size),
        "good": int(good.sum()),
        "bad": int((~good).sum()),
        "outcomes": {
            "both right": int((good & outcomes.right).sum()),
            "box wrong": int((~good & outcomes.right).sum()),
            "class wrong": int((good & ~outcomes.right).sum()),
            "both wrong": int((~good & ~outcomes.right).sum()),
        },
        "chance": chance(outcomes, threshold),
        "curve": threshold_curve(outcomes),
        "errors": error_table(outcomes),
        "bias": _bias(outcomes),
        "confusion": formulas.confusion_matrix(outcomes.labels, outcomes.predicted, len(classes)).tolist(),
        "per_class": class_rows(outcomes, classes, threshold),
        "mistakes": _shown(outcomes, classes, ids),
    }


def chance(outcomes: Outcomes, threshold: float) -> JsonDict:
    """Joint accuracy of the mean true box with the most frequent class, the same for every image, as plain JSON."""
    true = outcomes.true_boxes.astype(np.float64)
    mean: Floats = np.tile(true.mean(axis=0), (len(true), 1))
    good = box_ops.iou(mean, true) >= threshold
    frequent = outcomes.labels == np.bincount(outcomes.labels).argmax()
    return {"value": float((good & frequent).mean()), "by": "always the mean box and the most frequent class"}


def threshold_curve(outcomes: Outcomes) -> dict[str, list[float | None]]:
    """Shares of good boxes and of samples with class and box right, at every threshold, with 95 % intervals."""
    good = outcomes.iou[:, None] >= THRESHOLDS
    curves: dict[str, list[float | None]] = {"thresholds": THRESHOLDS.tolist()}
    for name, hits in (("good_boxes", good), ("joint_accuracy", good & outcomes.right[:, None])):
        counts = hits.sum(axis=0)
        low, high = wilson(counts, np.full(len(counts), len(hits)))
        curves |= {name: plain_numbers(counts / len(hits)), f"{name}_low": plain_numbers(low)}
        curves[f"{name}_high"] = plain_numbers(high)
    return curves


def error_table(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """Median, 90th percentile and largest of IoU's shortfall and of the errors in pixels."""
    columns = {"centre_px": outcomes.centre_errors, "size_px": outcomes.size_errors, "one_minus_iou": 1 - outcomes.iou}
    return {
        name: {
            "median": float(np.median(values)),
            "p90": float(np.quantile(values, 0.9)),
            "largest": float(values.max()),
        }
        for name, values in columns.items()
    }


def class_rows(outcomes: Outcomes, classes: Sequence[str], threshold: float) -> list[JsonDict]:
    """For each class: share of right classes, of good boxes and of both, with intervals, mean IoU and samples."""
    rows = []
    for k, name in enumerate(classes):
        own = outcomes.labels == k
        right, good, count = outcomes.right[own], outcomes.iou[own] >= threshold, int(own.sum())
        shares = {"accuracy": right, "good_boxes": good, "joint_accuracy": right & good}
        row = {key: plain_score(share_score(int(hits.sum()), count)) for key, hits in shares.items()}
        mean = plain_number(float(outcomes.iou[own].mean()) if count else np.nan)
        rows.append({"class": str(name), **row, "mean_iou": mean, "support": count})
    return rows


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """Median of `values` [N], each counted by a whole-numbered weight, for each row of `weights` [r, N]: float64 [r].

    Of an even number of samples, the mean of the two in the middle, as `numpy.median`.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    half = reached[:, -1:] / 2
    lower, upper = (reached < half).sum(axis=1), (reached <= half).sum(axis=1)
    ordered = values[order]
    last = len(values) - 1
    return np.asarray((ordered[np.minimum(lower, last)] + ordered[np.minimum(upper, last)]) / 2)


def _bias(outcomes: Outcomes) -> dict[str, float]:
    """Mean signed errors of boxes in pixels: right, down, width, height."""
    predicted, true = (boxes.astype(np.float64) for boxes in (outcomes.boxes, outcomes.true_boxes))
    difference = box_ops.xyxy_to_cxcywh(predicted) - box_ops.xyxy_to_cxcywh(true)
    return dict(zip(("right", "down", "wider", "higher"), difference.mean(axis=0).tolist(), strict=True))


def _shown(outcomes: Outcomes, classes: Sequence[str], ids: Sequence[str]) -> list[JsonDict]:
    """The best, the worst and random samples by IoU, each sample once."""
    worst_first = np.argsort(outcomes.iou, kind="stable")
    count = min(NUM_SHOWN, len(worst_first) // 3) or min(1, len(worst_first))
    chosen = {"worst": worst_first[:count], "best": worst_first[count:][::-1][:count]}
    rest = np.setdiff1d(worst_first, np.concatenate(list(chosen.values())))
    chosen["random"] = np.random.default_rng(0).permutation(rest)[:count]
    return [
        {
            "kind": kind,
            "index": int(i),
            "id": str(ids[i]),
            "truth": str(classes[outcomes.labels[i]]),
            "predicted": str(classes[outcomes.predicted[i]]),
            "confidence": float(outcomes.confidences[i]),
            "iou": float(outcomes.iou[i]),
            "box": [float(x) for x in outcomes.boxes[i]],
            "true_box": [float(x) for x in outcomes.true_boxes[i]],
        }
        for kind, numbers in chosen.items()
        for i in numbers
    ]
