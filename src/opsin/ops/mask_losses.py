"""Losses of segmentation. torch.

Every loss is one number for each image, and the batch's loss is their plain mean: so gradients of parts of a batch add
up to those of the whole, and an image's pull does not depend on its company. Void pixels (255) count nowhere; an image
that is void altogether has loss 0.

Shapes: B images, K classes, H height, W width. `logits` floating [B, K, H, W]; half precision is computed in float32.
`masks` uint8 or int64 [B, H, W], 0 to K - 1 or void. All return floating [B].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from opsin.types import VOID

SMOOTH = 1.0
"""Pixels that are added to both sides of an overlap: the loss of an image with a few pixels of a class stays calm."""
FOCUS = 2.0
"""Exponent of the focal loss. Source: Lin et al. 2017, arXiv 1708.02002, section 5.1."""
FALSE_SHARE, MISSED_SHARE = 0.3, 0.7
"""Weights of false and of missed pixels. Source: Salehi et al. 2017, arXiv 1706.05721, table 1."""


def pixel_cross_entropy(
    logits: Tensor, masks: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy, mean over the pixels of an image; pixels of class k count `class_weights[k]` times."""
    logits, valid = _floating(logits), masks != VOID
    weights = None if class_weights is None else class_weights.to(logits)
    losses = F.cross_entropy(
        logits, masks.long(), weight=weights, label_smoothing=label_smoothing, reduction="none", ignore_index=VOID
    )
    return losses.sum((1, 2)) / valid.sum((1, 2)).clamp_min(1)


def focal(logits: Tensor, masks: Tensor, *, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy in which a pixel of probability p counts (1 - p)^2 times.

    Source: Lin et al. 2017, arXiv 1708.02002, equation 4.
    """
    logits, valid = _floating(logits), masks != VOID
    losses = F.cross_entropy(logits, masks.long(), reduction="none", ignore_index=VOID)
    factor = (1 - torch.exp(-losses)) ** FOCUS
    if class_weights is not None:
        factor = factor * class_weights.to(logits)[torch.where(valid, masks, 0).long()]
    return (factor * losses).sum((1, 2)) / valid.sum((1, 2)).clamp_min(1)


def soft_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice of probabilities, mean over the classes in the image: 1 - (2 Σpy + 1) / (Σp + Σy + 1).

    Source: Milletari et al. 2016, arXiv 1606.04797, section 3, with p in place of p² as most do today.
    """
    return _overlap_loss(logits, masks, false_share=0.5, missed_share=0.5)


def tversky(logits: Tensor, masks: Tensor) -> Tensor:
    """As soft Dice, but a missed pixel costs more than a false one.

    Source: Salehi et al. 2017, arXiv 1706.05721, equation 3.
    """
    return _overlap_loss(logits, masks, false_share=FALSE_SHARE, missed_share=MISSED_SHARE)


def lovasz(logits: Tensor, masks: Tensor) -> Tensor:
    """Lovász-softmax: the convex extension of 1 - IoU, mean over the classes in the image.

    Source: Berman et al. 2018, arXiv 1705.08790, equations 8, 9, 11 and algorithm 1.
    """
    probabilities = _floating(logits).softmax(1)
    return torch.stack([_lovasz_of_image(p, mask) for p, mask in zip(probabilities, masks, strict=True)])


def _lovasz_of_image(probabilities: Tensor, mask: Tensor) -> Tensor:
    """The loss of one image: probabilities [K, H, W], mask [H, W]."""
    valid = mask != VOID
    rows, labels = probabilities[:, valid], mask[valid].long()
    losses = [lovasz_of_class(rows[k], labels == k) for k in torch.unique(labels).tolist()]
    return torch.stack(losses).mean() if losses else probabilities.sum() * 0


def lovasz_of_class(probabilities: Tensor, inside: Tensor) -> Tensor:
    """The errors, largest first, times how much each would raise 1 - IoU: both [P]."""
    errors, order = torch.sort((inside.to(probabilities) - probabilities).abs(), descending=True)
    truth = inside[order].to(probabilities)
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    steps = torch.cat([jaccard[:1], jaccard.diff()])
    return errors @ steps


def _overlap_loss(logits: Tensor, masks: Tensor, *, false_share: float, missed_share: float) -> Tensor:
    """1 - (TP + s) / (TP + a FP + b FN + s), with s = SMOOTH / 2, mean over the classes in the image."""
    probabilities, valid = _floating(logits).softmax(1), masks != VOID
    B, K = probabilities.shape[:2]
    labels = torch.where(valid, masks, 0).long()
    seen = valid.to(probabilities)
    picked = probabilities.gather(1, labels[:, None])[:, 0] * seen
    flat = labels.flatten(1)
    true = probabilities.new_zeros(B, K).scatter_add(1, flat, seen.flatten(1))
    inside = probabilities.new_zeros(B, K).scatter_add(1, flat, picked.flatten(1))
    predicted = torch.einsum("bkhw,bhw->bk", probabilities, seen)
    wrong = false_share * (predicted - inside) + missed_share * (true - inside)
    losses = wrong / (inside + wrong + SMOOTH / 2)
    present = (true > 0).to(probabilities)
    return (losses * present).sum(1) / present.sum(1).clamp_min(1)


def _floating(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


OVERLAP_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dice": soft_dice,
    "lovasz": lovasz,
    "tversky": tversky,
}
"""Losses of the overlap of regions, which take no class weights: each class in an image counts the same already."""
