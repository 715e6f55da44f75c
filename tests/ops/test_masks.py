"""Scores of masks, against torchmetrics, scipy, loops written by hand and numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score, multiclass_jaccard_index

from opsin.errors import DataError
from opsin.ops import masks as formulas
from opsin.types import VOID


def random_case(generator, *, num=4, num_classes=4, side=7, void=0.15):
    """Masks in which classes are sometimes absent and pixels sometimes void."""
    present = generator.permutation(num_classes)[: generator.integers(1, num_classes + 1)]
    truth = generator.choice(present, (num, side, side + 2)).astype(np.uint8)
    masks = np.where(generator.random(truth.shape) < 0.5, truth, generator.integers(0, num_classes, truth.shape))
    truth[generator.random(truth.shape) < generator.choice([0.0, void])] = VOID
    return masks.astype(np.uint8), truth


def counted_by_hand(masks, truth, num_classes):
    """True positives, false positives and false negatives of each class, pixel by pixel."""
    counts = np.zeros((num_classes, 3), np.int64)
    for predicted, true in zip(masks.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if true == VOID:
            continue
        if predicted == true:
            counts[true, 0] += 1
        else:
            counts[predicted, 1] += 1
            counts[true, 2] += 1
    return counts


def test_iou_and_dice_of_a_case_worked_by_hand():
    truth = np.array([[[0, 0, 1], [1, 1, VOID]]], np.uint8)
    masks = np.array([[[0, 1, 1], [1, 0, 1]]], np.uint8)
    counts = formulas.confusions(masks, truth, 3)[0]
    np.testing.assert_array_equal(counts, [[1, 1, 0], [1, 2, 0], [0, 0, 0]])
    np.testing.assert_allclose(formulas.iou(counts), [1 / 3, 2 / 4, math.nan])
    np.testing.assert_allclose(formulas.dice(counts), [2 / 4, 4 / 6, math.nan])
    assert formulas.class_mean(formulas.iou(counts)) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert formulas.pixel_accuracy(counts) == pytest.approx(3 / 5)
    assert formulas.frequency_weighted_iou(counts) == pytest.approx(2 / 5 * 1 / 3 + 3 / 5 * 1 / 2)


def test_a_thousand_random_cases_equal_a_loop_written_by_hand_for_any_batch_size_and_order():
    generator = np.random.default_rng(0)
    for case in range(1000):
        masks, truth = random_case(generator)
        tp, fp, fn = counted_by_hand(masks, truth, 4).T
        with np.errstate(invalid="ignore"):
            iou, dice = tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)
        order = generator.permutation(len(masks))
        size = (1, 2, 4, 32)[case % 4]
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        confusion = sum(formulas.confusions(masks[part], truth[part], 4).sum(0) for part in parts)
        np.testing.assert_allclose(formulas.iou(confusion), iou, rtol=1e-12)
        np.testing.assert_allclose(formulas.dice(confusion), dice, rtol=1e-12)
        present = ~np.isnan(iou)
        if present.any():
            assert formulas.class_mean(formulas.iou(confusion)) == pytest.approx(iou[present].mean(), rel=1e-12)
        else:
            assert math.isnan(formulas.class_mean(formulas.iou(confusion)))


def test_a_thousand_random_cases_equal_torchmetrics():
    generator = np.random.default_rng(1)
    for _ in range(1000):
        masks, truth = random_case(generator, num=2, side=5)
        if (truth == VOID).all():
            continue
        confusion = formulas.confusions(masks, truth, 4).sum(0)
        given = torch.from_numpy(masks).long(), torch.from_numpy(truth).long()
        settings = {"num_classes": 4, "ignore_index": VOID, "validate_args": False}
        mean = multiclass_jaccard_index(*given, average="macro", **settings)
        assert formulas.class_mean(formulas.iou(confusion)) == pytest.approx(mean.item(), rel=1e-5)
        each = multiclass_f1_score(*given, average="none", **settings).numpy()
        np.testing.assert_allclose(np.nan_to_num(formulas.dice(confusion)), each, rtol=1e-5)
        right = multiclass_accuracy(*given, average="micro", **settings)
        assert formulas.pixel_accuracy(confusion) == pytest.approx(right.item(), rel=1e-5)


def test_a_class_that_is_never_predicted_has_no_precision_and_counts_0_in_the_mean():
    confusion = np.array([[6, 0, 0], [4, 0, 0], [0, 0, 0]])
    assert np.isnan(formulas.precision(confusion)[1:]).all()
    assert formulas.mean_precision(confusion) == pytest.approx((0.6 + 0) / 2)


def test_the_foreground_is_all_but_class_0():
    masks, truth = random_case(np.random.default_rng(2))
    merged = formulas.confusions(np.minimum(masks, 1), np.where(truth == VOID, VOID, np.minimum(truth, 1)), 2)
    np.testing.assert_array_equal(formulas.foreground(formulas.confusions(masks, truth, 4)), merged)


@pytest.mark.parametrize("radius", [0, 1, 2, 3])
def test_widening_is_a_euclidean_distance(radius):
    pixels = np.random.default_rng(3).random((6, 9, 11)) < 0.03
    for image, wide in zip(pixels, formulas.widened(pixels, radius), strict=True):
        if image.any():
            np.testing.assert_array_equal(wide, ndimage.distance_transform_edt(~image) <= radius)
        else:
            assert not wide.any()


def test_edges_of_a_square_are_its_rim_and_the_pixels_around_it():
    masks = np.zeros((1, 7, 7), np.uint8)
    masks[0, 2:5, 2:5] = 1
    inside = masks[0] == 1
    rim = inside & ~ndimage.binary_erosion(inside)
    around = ndimage.binary_dilation(inside) & ~inside
    np.testing.assert_array_equal(formulas.edges(masks)[0], rim | around)


def test_a_square_moved_by_the_tolerance_has_perfect_edges_and_one_moved_further_has_not():
    truth = np.zeros((1, 20, 20), np.uint8)
    truth[0, 5:12, 5:12] = 1
    for right, perfect in ((0, True), (2, True), (4, False)):
        masks = np.roll(truth, right, axis=2)
        exact, whole, f1 = formulas.boundary_scores(formulas.edge_counts(masks, truth, 2, tolerance=2).sum(0))
        assert (f1[1] == 1) == perfect
        assert (exact[1] == 1 and whole[1] == 1) == perfect


def test_a_band_of_void_around_an_object_has_its_edge_in_the_middle():
    truth = np.zeros((1, 16, 16), np.uint8)
    truth[0, 4:12, 4:12] = VOID
    truth[0, 6:10, 6:10] = 1
    masks = np.zeros_like(truth)
    masks[0, 5:11, 5:11] = 1
    f1 = formulas.boundary_scores(formulas.edge_counts(masks, truth, 2, tolerance=1).sum(0))[2]
    np.testing.assert_allclose(f1, [1, 1])


def test_nothing_inside_a_large_void_counts_as_an_edge():
    truth = np.full((1, 30, 30), VOID, np.uint8)
    truth[0, :3] = 0
    masks = np.zeros_like(truth)
    masks[0, 20:25, 20:25] = 1
    counts = formulas.edge_counts(masks, truth, 2, tolerance=2)
    assert counts.sum() == 0
    assert np.isnan(formulas.boundary_scores(counts.sum(0))[2]).all()


def test_boundary_f1_is_zero_where_only_one_has_edges():
    truth = np.zeros((1, 8, 8), np.uint8)
    masks = truth.copy()
    masks[0, 2:5, 2:5] = 1
    np.testing.assert_array_equal(
        formulas.boundary_scores(formulas.edge_counts(masks, truth, 2, tolerance=1).sum(0))[2], [0, 0]
    )


def test_masks_that_do_not_fit_are_refused_with_their_values():
    good = np.zeros((1, 2, 2), np.uint8)
    with pytest.raises(DataError, match="3, 7"):
        formulas.check_masks(good, np.array([[[0, 3], [7, VOID]]], np.uint8), 3)
    with pytest.raises(DataError, match="predicted"):
        formulas.check_masks(good + np.uint8(5), good, 3)
    with pytest.raises(DataError, match="do not match"):
        formulas.check_masks(good[:, :1], good, 3)
