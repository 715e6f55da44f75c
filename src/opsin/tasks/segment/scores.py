"""Scores of a split for segmentation, with intervals, and the details of its report.

Shapes: N images, K classes, H height, W width, r resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array, Arrays
from opsin.data.samples import Pixels
from opsin.ops import masks as formulas
from opsin.ops.intervals import Floats, Ints, Statistic, bootstrap, jackknife_quantiles, share_interval
from opsin.ops.resize import fit_image, fit_mask
from opsin.types import VOID, JsonDict, Score, SizePolicy, plain_number, plain_score

Bytes = NDArray[np.uint8]
NUM_SHOWN = 4
"""Number of images of each kind: worst, median, best."""
PICTURE_PX = 192
FEW_IMAGES = 10
"""Images of a class from which on the interval of the mean IoU holds the truth as often as it says."""
NUM_BINS = 20
PER_CLASS = ("iou", "dice", "precision", "recall", "boundary_f1")


def edge_counts(masks: Bytes, truth: Bytes, num_classes: int) -> Ints:
    """Counts behind the edge scores, as in `ops.masks`, at the tolerance of the images' size.

    Args:
        masks: predicted, uint8 [N, H, W].
        truth: uint8 [N, H, W], 255 = void.
        num_classes: K.

    Returns:
        int64 [N, K, 4].
    """
    return formulas.edge_counts(masks, truth, num_classes, tolerance=formulas.edge_tolerance(*truth.shape[1:]))


def segmentation_scores(
    pixels: Ints, edges: Ints | None, classes: Sequence[str], *, intervals: bool = True
) -> dict[str, Score]:
    """All scores of a split from its counts; intervals are the bootstrap's, over images.

    Args:
        pixels: confusions, int64 [N, K, K].
        edges: int64 [N, K, 4]; None leaves out the scores of edges.
        classes: K names; scores of the foreground need the first to be `background`.
        intervals: without them they are NaN.
    """
    names, summary = _summary(pixels, edges, classes)
    values = summary(np.ones((1, len(pixels))))[0]
    ends = np.full((2, len(names)), np.nan)
    if intervals:
        ends = np.stack(_ends(values, summary, len(pixels)))
    return {name: Score(float(v), float(a), float(b)) for name, v, a, b in zip(names, values, *ends, strict=True)}


def _ends(values: Floats, summary: Statistic, num_images: int) -> tuple[Floats, Floats]:
    """Ends of the intervals of scores [M] over images; wider if few images dominate."""
    quantiles = jackknife_quantiles(summary, num_images)
    return share_interval(
        values, bootstrap(summary, num_images), num_images, num_samples=num_images, quantile=quantiles
    )


def _summary(pixels: Ints, edges: Ints | None, classes: Sequence[str]) -> tuple[list[str], Statistic]:
    """Names of the scores, and the function from weights of images [r, N] to scores [r, M]."""
    names = ["mean_iou", "mean_dice"]
    names += ["foreground_dice", "foreground_iou"] if classes[0] == "background" else []
    names += ["pixel_accuracy", "mean_precision", "mean_recall", "frequency_weighted_iou"]
    names += ["boundary_f1", "boundary_precision", "boundary_recall"] if edges is not None else []

    def summary(weights: Floats) -> Floats:
        columns = _pixel_scores(_weighted(weights, pixels))
        if edges is not None:
            columns |= _edge_scores(_weighted(weights, edges))
        return np.stack([columns[name] for name in names], axis=1)

    return names, summary


def _pixel_scores(confusion: Floats) -> dict[str, Floats]:
    """Scores of regions, each float64 [r], of confusions float64 [r, K, K]."""
    front = formulas.foreground(confusion)
    return {
        "mean_iou": formulas.class_mean(formulas.iou(confusion)),
        "mean_dice": formulas.class_mean(formulas.dice(confusion)),
        "foreground_dice": formulas.dice(front)[..., 1],
        "foreground_iou": formulas.iou(front)[..., 1],
        "pixel_accuracy": formulas.pixel_accuracy(confusion),
        "mean_precision": formulas.mean_precision(confusion),
        "mean_recall": formulas.class_mean(formulas.recall(confusion)),
        "frequency_weighted_iou": formulas.frequency_weighted_iou(confusion),
    }


def _edge_scores(counts: Floats) -> dict[str, Floats]:
    """Scores of edges, each float64 [r], of counts float64 [r, K, 4]."""
    means = [formulas.class_mean(scores) for scores in formulas.boundary_scores(counts)]
    return dict(zip(("boundary_precision", "boundary_recall", "boundary_f1"), means, strict=True))


def _weighted(weights: Floats, counts: Ints) -> Floats:
    """Sums over images, float64 [r, ...], of counts [N, ...] and how often each image counts, [r, N]."""
    sums: Floats = weights @ counts.reshape(len(counts), -1).astype(np.float64)
    return sums.reshape(len(weights), *counts.shape[1:])


def segmentation_details(
    pixels: Ints, edges: Ints, truth: Bytes, classes: Sequence[str], ids: Sequence[str]
) -> JsonDict:
    """Details of the report, as plain JSON.

    Args:
        pixels: confusions, int64 [N, K, K].
        edges: int64 [N, K, 4].
        truth: uint8 [N, H, W], 255 = void.
        classes: K names.
        ids: N names.
    """
    single = formulas.class_mean(formulas.iou(pixels))
    return {
        "confusion": pixels.sum(0).tolist(),
        "per_class": _per_class(pixels, edges, classes),
        "chance": chance(pixels, classes),
        **caveats(pixels, classes),
        "images": _distribution(single),
        "void_share": float((truth == VOID).mean()),
        "empty": _empty(pixels, classes),
        "edge_tolerance": formulas.edge_tolerance(*truth.shape[1:]),
        "shown": [
            {"index": int(i), "id": str(ids[i]), "kind": kind, "iou": plain_number(single[i])}
            for i, kind in _chosen(single)
        ],
    }


def chance(pixels: Ints, classes: Sequence[str]) -> JsonDict:
    """Mean IoU of predicting the most frequent class everywhere, as plain JSON; None without labelled pixels."""
    true = pixels.sum(axis=(0, 2))
    share = true.max() / true.sum() if true.sum() else np.nan
    value = share / max(int((true > 0).sum()), 1)
    return {"value": plain_number(float(value)), "by": f"all pixels of {classes[int(true.argmax())]}"}


def caveats(pixels: Ints, classes: Sequence[str]) -> dict[str, str]:
    """`caveat`: the interval of the mean IoU is too narrow, as a class occurs in few images; empty where none does.

    Source: `benchmarks/coverage.py`; docs/intervals.md.
    """
    images = (pixels.sum(2) > 0).sum(0)
    rare = [k for k in np.argsort(images, kind="stable") if 0 < images[k] < FEW_IMAGES]
    if not rare:
        return {}
    count = int(images[rare[0]])
    lies = f"`{classes[rare[0]]}` lies in {count} of {len(pixels)} images"
    others = f" ({len(rare) - 1} more classes in fewer than {FEW_IMAGES})" if len(rare) > 1 else ""
    words = (
        f"{lies}{others}, so its interval is too narrow: it contains the true value in 86 % of splits with 3 images of "
        "a class, in 93 % with 6, instead of 95 %"
    )
    return {"caveat": words}


def _per_class(pixels: Ints, edges: Ints, classes: Sequence[str]) -> list[JsonDict]:
    """IoU, Dice, precision, recall and boundary F1 of each class, with intervals; its pixels and images."""

    def summary(weights: Floats) -> Floats:
        confusion, edge = _weighted(weights, pixels), _weighted(weights, edges)
        columns = [f(confusion) for f in (formulas.iou, formulas.dice, formulas.precision, formulas.recall)]
        return np.concatenate([*columns, formulas.boundary_scores(edge)[2]], axis=1)

    values = summary(np.ones((1, len(pixels))))[0]
    low, high = _ends(values, summary, len(pixels))
    table = np.stack([values, low, high]).reshape(3, len(PER_CLASS), len(classes))
    true = pixels.sum(2)
    return [
        {"class": str(name), "support": int(true[:, k].sum()), "images": int((true[:, k] > 0).sum())}
        | {key: plain_score(Score(*(float(part) for part in table[:, row, k]))) for row, key in enumerate(PER_CLASS)}
        for k, name in enumerate(classes)
    ]


def _distribution(single: Floats) -> JsonDict:
    """Distribution of the mean IoU of single images: edges of bins and counts, quartiles."""
    known = single[~np.isnan(single)]
    counts, edges = np.histogram(known, bins=NUM_BINS, range=(0, 1))
    quartiles = np.quantile(known, [0.25, 0.5, 0.75]).tolist() if len(known) else [None] * 3
    return {"edges": edges.tolist(), "count": counts.tolist(), "quartiles": quartiles}


def _empty(pixels: Ints, classes: Sequence[str]) -> dict[str, int] | None:
    """Images without foreground: in truth, in the prediction, in both; None where there is no background class."""
    if classes[0] != "background":
        return None
    front = formulas.foreground(pixels)
    true, predicted = front[:, 1].sum(1) == 0, front[:, :, 1].sum(1) == 0
    return {"true": int(true.sum()), "predicted": int(predicted.sum()), "both": int((true & predicted).sum())}


def _chosen(single: Floats) -> list[tuple[int, str]]:
    """The shown images: the worst, the median and the best, each once."""
    order = np.argsort(single, kind="stable")[: int((~np.isnan(single)).sum())]
    if len(order) <= 3 * NUM_SHOWN:
        return [(int(i), "of all") for i in order]
    middle = (len(order) - NUM_SHOWN) // 2
    parts = {"worst": order[:NUM_SHOWN], "middling": order[middle : middle + NUM_SHOWN], "best": order[-NUM_SHOWN:]}
    return [(int(i), kind) for kind, part in parts.items() for i in part]


def segmentation_pictures(
    images: Pixels, predictions: Mapping[str, Array], truth: Bytes, shown: Sequence[int]
) -> Arrays:
    """Images, true and predicted masks and uncertainty of the images `shown`, no side over `PICTURE_PX`.

    Returns:
        "shown" uint8 [n, C, h, w], "shown_truth", "shown_masks", "shown_uncertainty" uint8 [n, h, w].
    """
    if not shown:
        return {}
    height, width = images.shape[2:]
    scale = min(1.0, PICTURE_PX / max(height, width))
    policy = SizePolicy(height=max(1, round(height * scale)), width=max(1, round(width * scale)))
    arrays: Arrays = {"shown": np.stack([fit_image(np.asarray(images[i]), policy) for i in shown])}
    for name, stack in (("truth", truth), ("masks", predictions["masks"]), ("uncertainty", predictions["uncertainty"])):
        arrays[f"shown_{name}"] = np.stack([fit_mask(np.asarray(stack[i]), policy) for i in shown])
    return arrays
