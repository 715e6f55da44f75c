"""Segmentation without PyTorch: its scores, and its question."""

from __future__ import annotations

from opsin.tasks.cards import ScoreKind, TaskCard

SCORE_KINDS = {
    "mean_iou": ScoreKind(title="Mean IoU", words="overlap over union of each class's pixels, mean over classes"),
    "mean_dice": ScoreKind(
        title="Mean Dice", words="twice the overlap over the sum of each class's pixels, mean over classes"
    ),
    "foreground_dice": ScoreKind(title="Foreground Dice", words="Dice of all foreground classes as one"),
    "foreground_iou": ScoreKind(title="Foreground IoU", words="IoU of all foreground classes as one"),
    "pixel_accuracy": ScoreKind(title="Pixel accuracy", words="pixels whose class is right"),
    "mean_precision": ScoreKind(
        title="Mean precision",
        words="correct share of the pixels predicted as a class, mean over classes; 0 for one never predicted",
    ),
    "mean_recall": ScoreKind(title="Mean recall", words="found share of the pixels of a class, mean over classes"),
    "frequency_weighted_iou": ScoreKind(
        title="Frequency-weighted IoU", words="IoU, classes weighted by their share of the pixels"
    ),
    "boundary_f1": ScoreKind(title="Boundary F1", words="agreement of the classes' edges, mean over classes"),
    "boundary_precision": ScoreKind(
        title="Boundary precision", words="predicted edges near a true one, mean over classes"
    ),
    "boundary_recall": ScoreKind(title="Boundary recall", words="true edges near a predicted one, mean over classes"),
}
CARD = TaskCard(
    name="segment",
    hub_tag="image-segmentation",
    main_score="mean_iou",
    score_kinds=SCORE_KINDS,
    question="Which pixels?",
    words="segmentation: a class per pixel",
    settings=("mask_loss",),
    part_score="iou",
    searched=("lr", "batch_size", "filters", "augment", "schedule", "mask_loss"),
    searched_pretrained=("lr", "batch_size", "augment", "weight_decay", "mask_loss", "backbone_lr"),
)
