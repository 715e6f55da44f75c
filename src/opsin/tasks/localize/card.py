"""Localization without PyTorch: its scores, and its question."""

from __future__ import annotations

from opsin.tasks.cards import ACCURACY, ScoreKind, TaskCard, loss_kind

SCORE_KINDS = {
    "accuracy": ACCURACY,
    "mean_iou": ScoreKind(
        title="Mean IoU", words="overlap over union of the true and the predicted box, mean over images"
    ),
    "median_iou": ScoreKind(title="Median IoU", words="overlap over union of the boxes, median over images"),
    "good_boxes": ScoreKind(title="Good boxes", words="boxes whose overlap over union is at least {good_iou:g}"),
    "joint_accuracy": ScoreKind(title="Joint accuracy", words="images with the right class and a good box"),
    "centre_error_px": loss_kind(
        "Error of the centre, px", "mean distance of the boxes' centres, in pixels of the network's input"
    ),
    "size_error_px": loss_kind(
        "Error of the size, px", "mean error of the boxes' width and height, in pixels of the network's input"
    ),
    "loss": loss_kind("Loss", "losses of class and box, weighted as in training"),
    "class_loss": loss_kind("Class loss", "mean cross-entropy of the class (nats)"),
    "box_loss": loss_kind("Box loss", "mean loss of the box"),
}
CARD = TaskCard(
    name="localize",
    hub_tag="object-detection",
    main_score="joint_accuracy",
    score_kinds=SCORE_KINDS,
    question="What is it, and where?",
    words="localization: a class and a box per image",
    settings=("box_loss", "box_weight", "good_iou", "learn_weights"),
    decides_class=True,
    part_score="joint_accuracy",
    moves_freely=False,
    searched=("lr", "batch_size", "filters", "augment", "schedule", "box_weight"),
    searched_pretrained=("lr", "batch_size", "augment", "weight_decay", "box_weight", "backbone_lr"),
)
