"""Losses of masks: gradients, void, and formulas written out."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from opsin.ops import mask_losses
from opsin.types import VOID

WEIGHTS = torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64)
LOSSES = {
    "cross-entropy": partial(mask_losses.pixel_cross_entropy, class_weights=WEIGHTS, label_smoothing=0.1),
    "focal": partial(mask_losses.focal, class_weights=WEIGHTS),
    **mask_losses.OVERLAP_LOSSES,
}


def make_case(seed=0, *, num=3, num_classes=3, side=4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num, num_classes, side, side + 1, generator=generator, dtype=torch.float64)
    masks = torch.randint(0, num_classes, (num, side, side + 1), generator=generator).to(torch.uint8)
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = VOID
    return logits, masks


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_passes_gradcheck(name):
    logits, masks = make_case(side=2)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, masks), logits.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_void_pixels_change_neither_the_loss_nor_get_a_gradient(name):
    logits, masks = make_case()
    logits.requires_grad_()
    losses = LOSSES[name](logits, masks)
    losses.sum().backward()
    assert logits.grad.permute(0, 2, 3, 1)[masks == VOID].abs().max() == 0
    other = logits.detach().clone()
    other.permute(0, 2, 3, 1)[masks == VOID] += 10 * torch.randn(int((masks == VOID).sum()), 3, dtype=torch.float64)
    torch.testing.assert_close(LOSSES[name](other, masks), losses.detach())


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_of_void_alone_has_loss_0_and_a_gradient_of_0(name):
    logits, masks = make_case()
    masks[1] = VOID
    losses = LOSSES[name](logits.requires_grad_(), masks)
    losses.sum().backward()
    assert losses[1] == 0
    assert logits.grad[1].abs().max() == 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_has_the_same_loss_in_any_company(name):
    logits, masks = make_case()
    alone = torch.cat([LOSSES[name](logits[i : i + 1], masks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(LOSSES[name](logits, masks), alone)


@pytest.mark.parametrize("name", LOSSES)
def test_right_and_sure_costs_little_and_wrong_and_sure_costs_more(name):
    _, masks = make_case(side=8)
    seen = torch.where(masks == VOID, 0, masks).long()
    right = 40 * F.one_hot(seen, 3).permute(0, 3, 1, 2).double()
    wrong = right.roll(1, dims=1)
    smoothed = 6.0 if name == "cross-entropy" else 1e-6
    assert LOSSES[name](right, masks).max() < smoothed
    assert (LOSSES[name](wrong, masks) > LOSSES[name](right, masks) + 0.5).all()


def test_soft_dice_of_a_case_worked_by_hand():
    logits = torch.tensor([0.9, 0.2]).double().log()[None, None, None, :].repeat(1, 2, 1, 1)
    logits[:, 1] = torch.tensor([0.1, 0.8]).double().log()
    masks = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    first = 1 - (2 * 0.9 + 1) / (1.1 + 1 + 1)
    second = 1 - (2 * 0.8 + 1) / (0.9 + 1 + 1)
    expected = torch.tensor([(first + second) / 2], dtype=torch.float64)
    torch.testing.assert_close(mask_losses.soft_dice(logits, masks), expected)


def test_tversky_of_cases_worked_by_hand():
    masks = torch.zeros(2, 1, 4, dtype=torch.uint8)
    masks[0, 0, :2], masks[1, 0, :2] = 1, 1
    missed, false = torch.zeros(1, 2, 1, 4).double(), torch.zeros(1, 2, 1, 4).double()
    missed[0, 1], missed[0, 0] = torch.tensor([9.0, -9, -9, -9]), torch.tensor([-9.0, 9, 9, 9])
    false[0, 1], false[0, 0] = torch.tensor([9.0, 9, 9, -9]), torch.tensor([-9.0, -9, -9, 9])
    tp, s = 1.0, 0.5
    inside = 0.7 / (tp + 0.7 + s), 0.3 / (2 + 0.3 + s)
    losses = mask_losses.tversky(torch.cat([missed, false]), masks)
    assert losses[0] == pytest.approx((inside[0] + inside[1]) / 2, rel=1e-4)
    assert losses[1] == pytest.approx((0.3 / (2 + 0.3 + s) + 0.7 / (1 + 0.7 + s)) / 2, rel=1e-4)


def test_focal_without_its_factor_is_the_cross_entropy(monkeypatch):
    logits, masks = make_case()
    monkeypatch.setattr(mask_losses, "FOCUS", 0.0)
    torch.testing.assert_close(mask_losses.focal(logits, masks), mask_losses.pixel_cross_entropy(logits, masks))


def test_cross_entropy_is_torchs_mean_over_the_pixels_of_an_image():
    logits, masks = make_case()
    expected = [F.cross_entropy(logits[i : i + 1], masks[i : i + 1].long(), ignore_index=VOID).item() for i in range(3)]
    assert mask_losses.pixel_cross_entropy(logits, masks).tolist() == pytest.approx(expected)


def test_lovasz_of_hard_masks_is_one_minus_the_mean_iou():
    _, masks = make_case(num=1, side=9)
    predicted = masks.roll(1, dims=2).clamp(max=2).long()
    logits = 60 * F.one_hot(predicted, 3).permute(0, 3, 1, 2).double()
    valid, shares = masks != VOID, []
    for k in range(3):
        true, said = (masks == k) & valid, (predicted == k) & valid
        shares.append(((true & said).sum() / (true | said).sum()).item())
    assert mask_losses.lovasz(logits, masks).item() == pytest.approx(1 - sum(shares) / 3, abs=1e-6)
