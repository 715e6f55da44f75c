"""Scores of masks side by side, answers that no network gave, and where two scores disagree.

Shapes: N images of H x W pixels, K classes; masks and truth are uint8 [N, H, W], void pixels `VOID` in the truth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from opsin.ops import masks as formulas
from opsin.ops.checkerboard import edge_phase as edge_phase
from opsin.types import VOID

Masks = NDArray[np.uint8]
Floats = NDArray[np.float64]
NAMES = {
    "pixel_accuracy": "pixel accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_iou": "mean IoU",
    "mean_dice": "mean Dice",
    "boundary_f1": "boundary F1",
}


def whole_scores(masks: Masks, truth: Masks, num_classes: int) -> dict[str, float]:
    """The scores of `NAMES`, over all pixels of all images."""
    confusion, edges = _counts(masks, truth, num_classes)
    return {key: float(np.squeeze(value)) for key, value in _scores(confusion.sum(0)[None], edges.sum(0)[None]).items()}


def single_scores(masks: Masks, truth: Masks, num_classes: int) -> dict[str, Floats]:
    """The scores of each image by itself, float64 [N]; NaN where one is undefined."""
    return _scores(*_counts(masks, truth, num_classes))


def made_up(truth: Masks, moved_px: int = 2) -> dict[str, Masks]:
    """Answers by what they are: the commonest class everywhere, and the truth with smaller and larger objects."""
    common = int(np.bincount(truth[truth != VOID]).argmax())
    known = np.where(truth == VOID, common, truth).astype(np.uint8)
    shrunk, grown = known.copy(), known.copy()
    shrunk[formulas.widened(known == common, moved_px)] = common
    for k in np.unique(known):
        if k != common:
            grown[formulas.widened(known == k, moved_px) & (known == common)] = k
    return {
        "one class everywhere": np.full_like(known, common),
        f"the truth, objects {moved_px} px smaller": shrunk,
        f"the truth, objects {moved_px} px larger": grown,
    }


def rank_correlation(scores: Mapping[str, Floats], a: str, b: str) -> float:
    """Spearman's correlation of two scores over images; NaN where one does not vary."""
    both = ~(np.isnan(scores[a]) | np.isnan(scores[b]))
    x, y = scores[a][both], scores[b][both]
    return float(stats.spearmanr(x, y).statistic) if len(x) > 2 and np.ptp(x) and np.ptp(y) else float("nan")


def most_opposed(scores: Mapping[str, Floats], truth: Masks, a: str, b: str) -> tuple[int, int]:
    """The two images i, j of several classes of which a ranks i far above j, and b j far above i."""
    known = np.where(truth == VOID, 0, truth)
    several = np.array([len(np.unique(mask)) > 1 for mask in known])
    rows = np.flatnonzero(several & ~np.isnan(scores[a]) & ~np.isnan(scores[b]))
    ranks = {key: stats.rankdata(scores[key][rows]) for key in (a, b)}
    ahead = ranks[a][:, None] - ranks[a][None]
    behind = ranks[b][None] - ranks[b][:, None]
    i, j = np.unravel_index(np.minimum(ahead, behind).argmax(), ahead.shape)
    return int(rows[i]), int(rows[j])


def _counts(masks: Masks, truth: Masks, num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Confusions [N, K, K] and counts of edges [N, K, 4]."""
    tolerance = formulas.edge_tolerance(*truth.shape[1:])
    edges = formulas.edge_counts(masks, truth, num_classes, tolerance=tolerance)
    return formulas.confusions(masks, truth, num_classes), edges


def _scores(confusion: NDArray[np.int64], edges: NDArray[np.int64]) -> dict[str, Floats]:
    return {
        "pixel_accuracy": formulas.pixel_accuracy(confusion),
        "frequency_weighted_iou": formulas.frequency_weighted_iou(confusion),
        "mean_iou": formulas.class_mean(formulas.iou(confusion)),
        "mean_dice": formulas.class_mean(formulas.dice(confusion)),
        "boundary_f1": formulas.class_mean(formulas.boundary_scores(edges)[2]),
    }
