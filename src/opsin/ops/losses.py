"""Losses of classification: cross-entropy with smoothing, class weights and mixed labels. torch.

Shapes: B samples, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    partner: Tensor | None = None,
    share: Tensor | None = None,
) -> Tensor:
    """Cross-entropy between a softmax and the labels, for each sample.

    The target of a sample is `share` of its label and the rest of its partner's (MixUp, CutMix), of which
    `label_smoothing` is then spread evenly over all classes. Class k counts `class_weights[k]` times.

    The caller takes the plain mean over samples, not a mean weighted by the batch's own class weights: so a sample's
    pull does not depend on who shares its batch, and gradients of parts of a batch add up to those of the whole.

    Args:
        logits: floating [B, K]; half precision is computed in float32.
        labels: int64 [B], 0 to K - 1.
        label_smoothing: 0 <= x < 1.
        class_weights: floating [K], 0 or more.
        partner: int64 [B], the label that was mixed in.
        share: floating [B], 0 to 1, share of `labels`.

    Returns:
        float32 [B] (float64 for float64 logits).

    Source: Szegedy et al. 2016, arXiv 1512.00567, section 7 (smoothing); Zhang et al. 2018, arXiv 1710.09412 (MixUp).
    """
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    if class_weights is not None:
        class_weights = class_weights.to(logits)
    if partner is None or share is None:
        return F.cross_entropy(logits, labels, weight=class_weights, label_smoothing=label_smoothing, reduction="none")
    # One softmax for both labels: half the work of two cross-entropies.
    log_probabilities = F.log_softmax(logits, dim=1)
    if class_weights is not None:
        log_probabilities = log_probabilities * class_weights
    picked = log_probabilities.gather(1, torch.stack((labels, partner), dim=1))
    mixed = torch.lerp(picked[:, 1], picked[:, 0], share.to(picked))
    if label_smoothing == 0:
        return -mixed
    return -torch.lerp(mixed, log_probabilities.mean(dim=1), label_smoothing)


def balancing_weights(counts: NDArray[np.int64], power: float) -> Tensor:
    """`inverse_frequency_weights` as the losses take them: float32 [K]."""
    return torch.from_numpy(inverse_frequency_weights(counts, power)).float()


def inverse_frequency_weights(counts: NDArray[np.int64], power: float = 1.0) -> NDArray[np.float64]:
    """Class weights in proportion to count ** -power, with mean 1 over the samples.

    Args:
        counts: int64 [K], samples of each class.
        power: 1 gives every class the same pull, N / (K · count); 0.5 goes half of that way, 0 not at all.

    Returns:
        float64 [K]; 0 for a class without samples, which K then does not count.

    >>> inverse_frequency_weights(np.array([1, 3]))
    array([2.        , 0.66666667])
    >>> inverse_frequency_weights(np.array([100, 400]), power=0.5)
    array([1.66666667, 0.83333333])

    Source: King and Zeng 2001, "Logistic regression in rare events data"; scikit-learn calls power 1 "balanced".
    """
    present = counts > 0
    raw: NDArray[np.float64] = np.where(present, np.where(present, counts, 1.0) ** -power, 0.0)
    weights: NDArray[np.float64] = raw * (counts.sum() / max(float((raw * counts).sum()), 1.0))
    return weights
