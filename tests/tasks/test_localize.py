"""Localization: losses, scores against independent formulas, and what a prediction is told as."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from opsin.batches.batch import Batch
from opsin.config import TrainConfig
from opsin.data.samples import Samples
from opsin.errors import ConfigError, DataError
from opsin.tasks import Targets, get_task
from opsin.tasks.localize.scores import THRESHOLDS, weighted_median
from opsin.tasks.localize.task import Localize
from opsin.types import SizePolicy

CLASSES = ("cat", "dog", "owl")
NUM = 60
SIDE = 40


def split(seed: int = 0, count: int = NUM) -> tuple[dict[str, np.ndarray], Targets]:
    """Predictions that are right more often than not, and their targets."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    logits = rng.normal(size=(count, 3)) + 2 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    corner, sides = rng.uniform(0, 20, (count, 2)), rng.uniform(8, 20, (count, 2))
    true = np.concatenate([corner, corner + sides], axis=1)
    boxes = np.clip(true + rng.normal(0, 1.5, true.shape), 0, SIDE)
    predictions = {"probabilities": probabilities.astype(np.float32), "boxes": boxes.astype(np.float32)}
    ids = tuple(f"val/{i}" for i in range(count))
    return predictions, Targets(ids=ids, labels=labels, boxes=true.astype(np.float32), image_size=(SIDE, SIDE))


def iou_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def batch(count: int = 4) -> Batch:
    _, targets = split(count=count)
    assert targets.labels is not None
    assert targets.boxes is not None
    return Batch(
        images=torch.zeros(count, 1, SIDE, SIDE, dtype=torch.uint8),
        index=torch.arange(count),
        labels=torch.from_numpy(targets.labels),
        boxes=torch.from_numpy(targets.boxes),
    )


def outputs(count: int = 4) -> dict[str, torch.Tensor]:
    predictions, _ = split(count=count)
    logits = torch.from_numpy(np.log(predictions["probabilities"]))
    return {"logits": logits, "boxes": torch.from_numpy(predictions["boxes"]), "log_variances": torch.tensor([0.5, -1])}


def test_scores_are_those_of_a_loop_by_hand() -> None:
    predictions, targets = split()
    found = get_task("localize").scores(predictions, targets, CLASSES, intervals=False)
    assert targets.boxes is not None
    overlaps = np.array([iou_by_hand(a, b) for a, b in zip(predictions["boxes"], targets.boxes, strict=True)])
    right = predictions["probabilities"].argmax(axis=1) == targets.labels
    expected = {
        "accuracy": right.mean(),
        "mean_iou": overlaps.mean(),
        "median_iou": np.median(overlaps),
        "good_boxes": (overlaps >= 0.6).mean(),
        "joint_accuracy": (right & (overlaps >= 0.6)).mean(),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("batch_size", [1, 2, 4, 32])
def test_scores_do_not_depend_on_batch_size_or_order(batch_size: int) -> None:
    predictions, targets = split()
    task = get_task("localize")
    whole = task.scores(predictions, targets, CLASSES, intervals=False)
    order = np.random.default_rng(batch_size).permutation(NUM)
    logits = torch.from_numpy(np.log(predictions["probabilities"][order]))
    boxes = torch.from_numpy(predictions["boxes"][order])
    decoded = [
        task.decode({"logits": logits[i : i + batch_size], "boxes": boxes[i : i + batch_size]})
        for i in range(0, NUM, batch_size)
    ]
    parts = {key: torch.cat([part[key] for part in decoded]).numpy() for key in decoded[0]}
    assert targets.labels is not None
    assert targets.boxes is not None
    shuffled = Targets(ids=targets.ids, labels=targets.labels[order], boxes=targets.boxes[order])
    again = task.scores(parts, shuffled, CLASSES, intervals=False)
    for name, score in whole.items():
        assert again[name].value == pytest.approx(score.value, abs=1e-12), name


def test_every_score_has_an_interval_that_holds_it() -> None:
    for name, score in get_task("localize").scores(*split(), CLASSES).items():
        assert score.low <= score.value <= score.high, name


def test_perfect_predictions_have_perfect_scores_and_a_flat_curve() -> None:
    _, targets = split()
    assert targets.boxes is not None
    perfect = {"probabilities": np.eye(3, dtype=np.float32)[targets.labels], "boxes": targets.boxes}
    task = get_task("localize")
    found = task.scores(perfect, targets, CLASSES, intervals=False)
    assert [found[k].value for k in ("accuracy", "mean_iou", "good_boxes", "joint_accuracy")] == [1, 1, 1, 1]
    assert found["centre_error_px"].value == 0
    assert task.assess(perfect, targets, CLASSES).details["curve"]["good_boxes"] == [1.0] * len(THRESHOLDS)


def test_an_error_of_three_and_four_pixels_is_five_from_centre_to_centre() -> None:
    _, targets = split(count=9)
    assert targets.boxes is not None
    moved = {
        "probabilities": np.eye(3, dtype=np.float32)[targets.labels],
        "boxes": targets.boxes + np.float32([3, 4, 3, 4]),
    }
    found = get_task("localize").scores(moved, targets, CLASSES, intervals=False)
    assert found["centre_error_px"].value == pytest.approx(5, abs=1e-5)
    assert found["size_error_px"].value == pytest.approx(0, abs=1e-5)
    bias = get_task("localize").assess(moved, targets, CLASSES).details["bias"]
    assert [round(bias[k], 4) for k in ("right", "down", "wider", "higher")] == [3, 4, 0, 0]


def test_the_weighted_median_is_the_median_of_repeated_samples() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=31)
    weights = rng.integers(0, 4, (20, 31)).astype(float)
    expected = [np.median(np.repeat(values, row.astype(int))) for row in weights]
    np.testing.assert_allclose(weighted_median(values, weights), expected)


def test_details_count_every_sample_once_and_show_each_at_most_once() -> None:
    details = get_task("localize").assess(*split(), CLASSES).details
    assert sum(details["outcomes"].values()) == details["good"] + details["bad"] == NUM
    shown = [(sample["kind"], sample["index"]) for sample in details["mistakes"]]
    assert len({index for _, index in shown}) == len(shown) == 48
    by_kind = {kind: [s["iou"] for s in details["mistakes"] if s["kind"] == kind] for kind in ("worst", "best")}
    assert max(by_kind["worst"]) <= min(by_kind["best"])
    assert [row["support"] for row in details["per_class"]] == np.bincount(split()[1].labels).tolist()  # type: ignore[arg-type]


def test_losses_are_cross_entropy_and_torchvisions_giou_in_their_weighted_sum() -> None:
    task, given, seen = Localize(box_loss="giou", box_weight=3), outputs(), batch()
    losses = task.loss(given, seen)
    assert seen.labels is not None
    assert seen.boxes is not None
    by_torch = torch.nn.functional.cross_entropy(given["logits"], seen.labels)
    torch.testing.assert_close(losses["class_loss"], by_torch)
    boxes = generalized_box_iou_loss(given["boxes"], seen.boxes, reduction="mean")
    torch.testing.assert_close(losses["box_loss"], boxes, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses["loss"], losses["class_loss"] + 3 * losses["box_loss"])
    torch.testing.assert_close(task.losses_per_sample(given, seen).mean(), losses["loss"])


def test_learned_weights_are_worked_by_hand_and_have_a_gradient() -> None:
    given = outputs()
    given["log_variances"].requires_grad_()
    losses = Localize(box_loss="mse", learn_weights=True).loss(given, batch())
    expected = np.exp(-0.5) * losses["class_loss"] + np.e * losses["box_loss"] + (0.5 - 1) / 2
    torch.testing.assert_close(losses["loss"], expected)
    assert losses["box_weight"] == pytest.approx(np.e)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    assert given["log_variances"].grad is not None
    assert (given["log_variances"].grad != 0).all()


def test_mean_square_error_counts_shares_of_the_sides() -> None:
    seen, given = batch(), outputs()
    assert seen.boxes is not None
    given["boxes"] = seen.boxes + 4
    losses = Localize(box_loss="mse").loss(given, seen)
    assert losses["box_loss"] == pytest.approx((4 / SIDE) ** 2)


def test_a_box_that_has_left_its_image_has_no_loss() -> None:
    seen = batch()
    assert seen.boxes is not None
    seen.boxes[1] = torch.tensor([5.0, 0, 5, 10])
    task = Localize(box_loss="giou")
    losses = task.losses_per_sample(outputs(), seen) - Localize(box_weight=0).losses_per_sample(outputs(), seen)
    assert losses[1] == 0
    assert (losses[[0, 2, 3]] > 0).all()


def test_batch_scores_are_the_scores_of_the_batch() -> None:
    found = get_task("localize").batch_scores(outputs(), batch())
    predictions, targets = split(count=4)
    expected = get_task("localize").scores(predictions, targets, CLASSES, intervals=False)
    for name, value in found.items():
        assert value.item() == pytest.approx(expected[name].value, abs=1e-5), name


def test_a_prediction_tells_its_box_in_pixels_of_the_original() -> None:
    predictions = {"probabilities": np.float32([[0.1, 0.7, 0.2]]), "boxes": np.float32([[10, 10, 30, 30]])}
    policy = SizePolicy(height=40, width=40)
    told = get_task("localize").describe(predictions, 0, CLASSES, "x", original_size=(80, 120), policy=policy)
    assert told.label == "dog"
    assert told.box == pytest.approx((30, 20, 90, 60))


def test_drawings_hold_the_box_in_colour_and_leave_the_image_alone() -> None:
    predictions, targets = split(count=1)
    image = np.zeros((1, SIDE, SIDE), np.uint8)
    task = get_task("localize")
    for drawing in (task.draw_target(image, targets, 0, CLASSES), task.draw_prediction(image, predictions, 0, CLASSES)):
        assert drawing.pixels.shape == (3, SIDE, SIDE)
        assert drawing.pixels.any()
        assert drawing.caption
    assert not image.any()


def test_samples_without_boxes_are_refused() -> None:
    samples = Samples(
        images=np.zeros((2, 1, 4, 4), np.uint8),
        ids=["a", "b"],
        labels=np.array([0, 1]),
        sizes=np.zeros((2, 2), np.int32),
    )
    with pytest.raises(DataError, match="lack a label or a box"):
        Localize().for_training(TrainConfig(), samples, 2)


@pytest.mark.parametrize("boxes", [np.zeros((NUM, 3), np.float32), np.full((NUM, 4), np.nan, np.float32)])
def test_boxes_that_cannot_be_scored_are_refused(boxes: np.ndarray) -> None:
    predictions, targets = split()
    with pytest.raises(DataError, match="cannot be scored"):
        get_task("localize").scores(predictions | {"boxes": boxes}, targets, CLASSES)


def test_the_iou_that_makes_a_box_good_is_a_setting_and_is_told() -> None:
    true = np.float32([[0, 0, 10, 10]] * 3)
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 5]])  # IoU 1, 0.7, 0.5
    predictions = {"probabilities": np.float32([[1, 0]] * 3), "boxes": boxes}
    targets = Targets(ids=("a", "b", "c"), labels=np.zeros(3, np.int64), boxes=true, image_size=(10, 10))
    shares = {}
    for good_iou in (0.6, 0.75, 0.5):
        task = get_task("localize").for_scoring(TrainConfig(good_iou=good_iou))
        shares[good_iou] = task.scores(predictions, targets, ("x", "y"))["good_boxes"].value
        assert f"{good_iou:g}" in task.score_kinds["good_boxes"].title
        assert task.assess(predictions, targets, ("x", "y")).details["threshold"] == good_iou
    assert shares == pytest.approx({0.6: 2 / 3, 0.75: 1 / 3, 0.5: 1.0})
    for wrong in (0.0, 1.5):
        with pytest.raises(ConfigError, match="good_iou"):
            TrainConfig(good_iou=wrong)
