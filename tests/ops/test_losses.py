"""Losses: against PyTorch's own with explicit targets, by hand, and their gradients numerically."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from opsin.ops.losses import cross_entropy, inverse_frequency_weights


def case(seed=0, num_samples=9, num_classes=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_samples, num_classes, generator=generator, dtype=dtype) * 3
    labels = torch.randint(num_classes, (num_samples,), generator=generator)
    partner = torch.randint(num_classes, (num_samples,), generator=generator)
    share = torch.rand(num_samples, generator=generator, dtype=dtype)
    weights = torch.rand(num_classes, generator=generator, dtype=dtype) + 0.5
    return logits, labels, partner, share, weights


KNOBS = pytest.mark.parametrize(
    ("smoothing", "weighted", "mixed"),
    [(s, w, m) for s in (0.0, 0.2) for w in (False, True) for m in (False, True)],
)


def chosen(weighted, mixed, smoothing, case):
    _, _, partner, share, weights = case
    return {
        "label_smoothing": smoothing,
        "class_weights": weights if weighted else None,
        "partner": partner if mixed else None,
        "share": share if mixed else None,
    }


@KNOBS
def test_cross_entropy_agrees_with_pytorch_on_explicit_targets(smoothing, weighted, mixed):
    found = case()
    logits, labels, partner, share, weights = found
    target = F.one_hot(labels, 5).double()
    if mixed:
        target = share[:, None] * target + (1 - share[:, None]) * F.one_hot(partner, 5)
    expected = F.cross_entropy(
        logits, target, weight=weights if weighted else None, label_smoothing=smoothing, reduction="none"
    )
    losses = cross_entropy(logits, labels, **chosen(weighted, mixed, smoothing, found))
    torch.testing.assert_close(losses, expected, atol=1e-9, rtol=0)


@KNOBS
def test_cross_entropy_has_the_gradient_that_its_values_have(smoothing, weighted, mixed):
    found = case(num_samples=4)
    logits, labels = found[0].requires_grad_(), found[1]
    knobs = chosen(weighted, mixed, smoothing, found)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, labels, **knobs), (logits,))


def test_cross_entropy_by_hand():
    # Softmax of (ln 3, 0) is (3/4, 1/4).
    logits, labels = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64), torch.tensor([0])
    assert cross_entropy(logits, labels).item() == pytest.approx(math.log(4 / 3), abs=1e-12)
    smooth = cross_entropy(logits, labels, label_smoothing=0.5).item()  # target (3/4, 1/4)
    assert smooth == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4), abs=1e-12)


def test_a_partner_without_share_changes_nothing():
    logits, labels, partner, _, _ = case()
    alone = cross_entropy(logits, labels)
    torch.testing.assert_close(cross_entropy(logits, labels, partner=partner, share=torch.ones(9).double()), alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_lose_nothing_in_the_loss(dtype):
    logits, labels, *_ = case(dtype=torch.float32)
    half = logits.to(dtype)
    losses = cross_entropy(half, labels)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, cross_entropy(half.float(), labels))


@pytest.mark.parametrize("mixed", [False, True])
def test_gradients_of_parts_of_a_batch_add_up(mixed):
    found = case()
    logits, labels, partner, share, weights = found
    knobs = {"label_smoothing": 0.1, "class_weights": weights}

    def gradient(rows):
        part = logits[rows].clone().requires_grad_()
        second = {"partner": partner[rows], "share": share[rows]} if mixed else {}
        cross_entropy(part, labels[rows], **knobs, **second).mean().backward()
        return part.grad * len(part) / 9

    parts = torch.cat([gradient(slice(0, 4)), gradient(slice(4, 9))])
    torch.testing.assert_close(parts, gradient(slice(0, 9)), atol=1e-12, rtol=0)


def test_class_weights_agree_with_scikit_learn_and_have_mean_one():
    labels = np.array([0] * 5 + [1] * 2 + [2] * 13)
    weights = inverse_frequency_weights(np.bincount(labels))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights, expected, atol=1e-12)
    assert weights[labels].mean() == pytest.approx(1.0, abs=1e-12)


def test_a_class_without_samples_weighs_nothing():
    np.testing.assert_allclose(inverse_frequency_weights(np.array([2, 0, 2])), [1.0, 0.0, 1.0])
