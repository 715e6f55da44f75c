"""IoU and the losses of boxes against torchvision, torchmetrics, a loop by hand, and gradcheck."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional.detection as metrics
import torchvision.ops as reference

from opsin.ops import boxes as ops

NUM_CASES = 1000


def random_boxes(seed: int, count: int = NUM_CASES) -> np.ndarray:
    """float64 [count, 4] in a 60 x 60 image: corners apart by at least 1."""
    generator = np.random.default_rng(seed)
    corner, sides = generator.uniform(0, 30, (count, 2)), generator.uniform(1, 30, (count, 2))
    return np.concatenate([corner, corner + sides], axis=1)


def iou_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_iou_of_half_shifted_squares_is_a_third() -> None:
    assert ops.iou(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])) == pytest.approx(1 / 3, abs=1e-15)


def test_giou_of_two_squares_apart_worked_by_hand() -> None:
    # hull 3 x 1, union 2: GIoU = 0 - (3 - 2) / 3
    assert ops.giou(np.array([0.0, 0, 1, 1]), np.array([2.0, 0, 3, 1])) == pytest.approx(-1 / 3)


def test_diou_of_two_squares_apart_worked_by_hand() -> None:
    # centres 2 apart, hull's diagonal² 3² + 1²
    assert ops.diou(np.array([0.0, 0, 1, 1]), np.array([2.0, 0, 3, 1])) == pytest.approx(-4 / 10)


def test_iou_is_that_of_torchvision_torchmetrics_and_a_loop_on_1000_random_boxes() -> None:
    a, b = random_boxes(0), random_boxes(1)
    found = ops.iou(a, b)
    by_hand = np.array([iou_by_hand(x, y) for x, y in zip(a, b, strict=True)])
    tensors = torch.from_numpy(a), torch.from_numpy(b)
    np.testing.assert_allclose(found, by_hand, atol=1e-12)
    np.testing.assert_allclose(found, reference.box_iou(*tensors).diagonal().numpy(), atol=1e-9)
    np.testing.assert_allclose(
        found, metrics.intersection_over_union(*tensors, aggregate=False).diagonal().numpy(), atol=1e-9
    )


@pytest.mark.parametrize("batch_size", [1, 2, 4, 32])
def test_iou_does_not_depend_on_batch_size_or_order(batch_size: int) -> None:
    a, b = random_boxes(2), random_boxes(3)
    whole = ops.iou(a, b)
    order = np.random.default_rng(batch_size).permutation(NUM_CASES)
    parts = [ops.iou(a[i], b[i]) for i in np.split(order, range(batch_size, NUM_CASES, batch_size))]
    np.testing.assert_array_equal(np.concatenate(parts), whole[order])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("giou", reference.generalized_box_iou_loss),
        ("diou", reference.distance_box_iou_loss),
        ("ciou", reference.complete_box_iou_loss),
        ("mse", lambda a, b: ((a - b) ** 2).mean(dim=1)),
    ],
)
def test_losses_have_the_values_of_torchvision(name: str, expected: object) -> None:
    a, b = torch.from_numpy(random_boxes(4)), torch.from_numpy(random_boxes(5))
    torch.testing.assert_close(ops.box_losses(name, a, b), expected(a, b), atol=1e-6, rtol=1e-6)  # type: ignore[operator]


def test_smooth_l1_is_a_parabola_near_zero_and_a_line_farther_out() -> None:
    beta = ops.SMOOTH_BETA
    boxes = torch.tensor([[beta / 2, 0, 0, 0], [3 * beta, 0, 0, 0]], dtype=torch.float64)
    found = ops.smooth_l1(boxes, torch.zeros_like(boxes))
    torch.testing.assert_close(found, torch.tensor([beta / 8, 2.5 * beta], dtype=torch.float64) / 4)


@pytest.mark.parametrize("name", sorted(ops.LOSSES))
def test_every_loss_passes_gradcheck(name: str) -> None:
    boxes = (torch.from_numpy(random_boxes(6, 40)) / 60).requires_grad_()
    targets = torch.from_numpy(random_boxes(7, 40)) / 60
    assert torch.autograd.gradcheck(lambda b: ops.box_losses(name, b, targets), (boxes,))


def test_learned_weights_pass_gradcheck_and_are_best_at_half_the_inverse_loss() -> None:
    losses = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    scales = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.weighted_by_uncertainty, (losses, scales))
    best = torch.log(2 * losses.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(ops.weighted_by_uncertainty(losses, best), best)
    torch.testing.assert_close(gradient, torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", sorted(ops.LOSSES))
def test_every_loss_is_zero_for_equal_boxes(name: str) -> None:
    boxes = torch.from_numpy(random_boxes(8))
    assert ops.box_losses(name, boxes, boxes.clone()).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_losses_of_distant_boxes_have_a_gradient_that_brings_them_together(name: str) -> None:
    box = torch.tensor([[0.0, 0.0, 0.1, 0.1]], requires_grad=True)
    ops.box_losses(name, box, torch.tensor([[0.8, 0.0, 0.9, 0.1]])).sum().backward()
    assert box.grad is not None
    assert box.grad[0, 2] < 0


@pytest.mark.parametrize("name", sorted(ops.LOSSES))
def test_losses_of_boxes_without_area_are_finite(name: str) -> None:
    box = torch.zeros(1, 4, requires_grad=True)
    loss = ops.box_losses(name, box, torch.zeros(1, 4))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert box.grad is not None
    assert torch.isfinite(box.grad).all()


def test_swapped_corners_have_no_area_and_no_overlap() -> None:
    swapped, whole = np.array([5.0, 5, 1, 1]), np.array([0.0, 0, 9, 9])
    assert ops.area(swapped) == 0
    assert ops.iou(swapped, whole) == 0


def test_centres_and_sides_agree_with_torchvision() -> None:
    boxes = torch.from_numpy(random_boxes(9))
    torch.testing.assert_close(ops.xyxy_to_cxcywh(boxes), reference.box_convert(boxes, "xyxy", "cxcywh"))


def test_errors_of_centre_and_size_worked_by_hand() -> None:
    a, b = np.array([0.0, 0, 4, 4]), np.array([3.0, 4, 9, 8])
    assert ops.centre_errors(a, b) == pytest.approx(np.hypot(4, 4))
    assert ops.size_errors(a, b) == pytest.approx((2 + 0) / 2)
