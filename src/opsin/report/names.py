"""What a person calls a score."""

from __future__ import annotations

SCORE_NAMES = {
    "top5": "Top-5 accuracy",
    "macro_f1": "Macro F1",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "adaptive_ece": "Adaptive calibration error",
    "mean_iou": "Mean IoU",
    "median_iou": "Median IoU",
    "mean_dice": "Mean Dice",
    "foreground_dice": "Foreground Dice",
    "foreground_iou": "Foreground IoU",
    "frequency_weighted_iou": "Frequency-weighted IoU",
    "boundary_f1": "Boundary F1",
    "centre_error_px": "Error of the centre, px",
    "size_error_px": "Error of the size, px",
}


def score_name(key: str) -> str:
    """What a person calls a score.

    >>> score_name("balanced_accuracy")
    'Balanced accuracy'
    """
    return SCORE_NAMES.get(key, key.replace("_", " ").capitalize())
