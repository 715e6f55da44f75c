"""Classification without PyTorch: its scores, and its question."""

from __future__ import annotations

from opsin.tasks.cards import ACCURACY, ScoreKind, TaskCard, loss_kind

SCORE_KINDS = {
    "accuracy": ACCURACY,
    "top5": ScoreKind(title="Top-5 accuracy", words="images whose class is among the five likeliest"),
    "balanced_accuracy": ScoreKind(
        title="Balanced accuracy", words="mean recall over classes: classes have equal weight"
    ),
    "macro_precision": ScoreKind(
        title="Macro precision", words="mean precision over classes; 0 for one never predicted"
    ),
    "macro_recall": ScoreKind(title="Macro recall", words="mean recall over classes"),
    "macro_f1": ScoreKind(title="Macro F1", words="mean F1 over classes"),
    "loss": loss_kind("Loss", "mean cross-entropy (nats)"),
    "brier": loss_kind("Brier score", "mean squared error of the probabilities, 0 to 2"),
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
}
CARD = TaskCard(
    name="classify",
    hub_tag="image-classification",
    main_score="accuracy",
    score_kinds=SCORE_KINDS,
    question="What is it?",
    words="classification: one class per image",
    decides_class=True,
    searched=(
        "lr",
        "batch_size",
        "filters",
        "dense",
        "dropout",
        "batch_norm",
        "augment",
        "schedule",
        "label_smoothing",
    ),
    searched_pretrained=("lr", "batch_size", "dropout", "augment", "weight_decay", "label_smoothing", "backbone_lr"),
)
