"""What every score of every task is called, what it says, and how it is read. No torch: the report reads it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScoreKind:
    """How a score is read.

    `title`: its name in tables. `words`: what it says, in a line. `higher_is_better`: which way is better. `share`:
    whether it lies between 0 and 1 and is shown as a percentage.
    """

    title: str
    words: str = ""
    higher_is_better: bool = True
    share: bool = True

    @property
    def short_title(self) -> str:
        """The title within a line: `accuracy`, `mean IoU`."""
        return self.title[:1].lower() + self.title[1:]


def _loss(title: str, words: str) -> ScoreKind:
    return ScoreKind(title=title, words=words, higher_is_better=False, share=False)


_ACCURACY = ScoreKind(title="Accuracy", words="images whose likeliest class is right")

SCORE_KINDS: Mapping[str, Mapping[str, ScoreKind]] = {
    "classify": {
        "accuracy": _ACCURACY,
        "top5": ScoreKind(title="Top-5 accuracy", words="images whose class is among the five likeliest"),
        "balanced_accuracy": ScoreKind(
            title="Balanced accuracy", words="mean recall over classes: each class counts the same"
        ),
        "macro_precision": ScoreKind(
            title="Macro precision", words="mean precision over classes; 0 for one never predicted"
        ),
        "macro_recall": ScoreKind(title="Macro recall", words="mean recall over classes"),
        "macro_f1": ScoreKind(title="Macro F1", words="mean F1 over classes"),
        "loss": _loss("Loss", "mean cross-entropy (nats)"),
        "brier": _loss("Brier score", "mean squared error of the probabilities, 0 to 2"),
        "ece": ScoreKind(
            title="Calibration error (ECE)",
            words="mean gap of confidence and accuracy, bins of equal width",
            higher_is_better=False,
        ),
        "adaptive_ece": ScoreKind(
            title="Adaptive calibration error",
            words="the same, bins of equally many samples",
            higher_is_better=False,
        ),
    },
    "localize": {
        "accuracy": _ACCURACY,
        "mean_iou": ScoreKind(
            title="Mean IoU", words="overlap over union of the true and the predicted box, mean over images"
        ),
        "median_iou": ScoreKind(title="Median IoU", words="overlap over union of the boxes: half of them lie above"),
        "good_boxes": ScoreKind(title="Good boxes", words="boxes whose overlap over union is at least {good_iou:g}"),
        "joint_accuracy": ScoreKind(title="Joint accuracy", words="images with the right class and a good box"),
        "centre_error_px": _loss(
            "Error of the centre, px", "mean distance of the boxes' centres, in pixels of the network's input"
        ),
        "size_error_px": _loss(
            "Error of the size, px", "mean error of the boxes' width and height, in pixels of the network's input"
        ),
        "loss": _loss("Loss", "losses of class and box, as they were weighted in training"),
        "class_loss": _loss("Class loss", "mean cross-entropy of the class (nats)"),
        "box_loss": _loss("Box loss", "mean loss of the box"),
    },
    "segment": {
        "mean_iou": ScoreKind(title="Mean IoU", words="overlap over union of each class's pixels, mean over classes"),
        "mean_dice": ScoreKind(
            title="Mean Dice", words="twice the overlap over the sum of each class's pixels, mean over classes"
        ),
        "foreground_dice": ScoreKind(title="Foreground Dice", words="Dice of all that is not background, as one"),
        "foreground_iou": ScoreKind(title="Foreground IoU", words="IoU of all that is not background, as one"),
        "pixel_accuracy": ScoreKind(title="Pixel accuracy", words="pixels whose class is right"),
        "mean_precision": ScoreKind(
            title="Mean precision",
            words="pixels called a class that are of it, mean over classes; 0 for one never predicted",
        ),
        "mean_recall": ScoreKind(title="Mean recall", words="pixels of a class that were found, mean over classes"),
        "frequency_weighted_iou": ScoreKind(
            title="Frequency-weighted IoU", words="IoU, each class weighed by its share of the pixels"
        ),
        "boundary_f1": ScoreKind(title="Boundary F1", words="agreement of the classes' edges, mean over classes"),
        "boundary_precision": ScoreKind(
            title="Boundary precision", words="predicted edges that lie near a true one, mean over classes"
        ),
        "boundary_recall": ScoreKind(
            title="Boundary recall", words="true edges that lie near a predicted one, mean over classes"
        ),
    },
}
"""Every score that a task can give, in the order of tables; `{good_iou}` stands for the setting of that name."""
MAIN_SCORES: Mapping[str, str] = {"classify": "accuracy", "localize": "joint_accuracy", "segment": "mean_iou"}
"""The score by which a task's epochs are compared and its reports open; higher is better."""


def score_kind(task: str, key: str) -> ScoreKind:
    """How a score is read; one that is not known is called as it is written.

    >>> score_kind("classify", "macro_f1").title, score_kind("classify", "new_score").title
    ('Macro F1', 'New score')
    """
    return SCORE_KINDS.get(task, {}).get(key, ScoreKind(title=key.replace("_", " ").capitalize()))
