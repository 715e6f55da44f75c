"""Regression without PyTorch: its scores, and its question."""

from __future__ import annotations

from opsin.tasks.cards import ScoreKind, TaskCard, loss_kind

SCORE_KINDS = {
    "r2": ScoreKind(
        title="R²", words="share of explained variance, mean over numbers; 0 for always predicting the mean"
    ),
    "mae": loss_kind("Mean absolute error", "in the units of the numbers, mean over them"),
    "rmse": loss_kind("Root mean squared error", "in the units of the numbers, mean over them"),
    "loss": loss_kind("Loss", "mean squared error of standardized numbers"),
}
CARD = TaskCard(
    name="regress",
    main_score="r2",
    score_kinds=SCORE_KINDS,
    question="How much?",
    words="regression: one or more numbers per image",
    settings=("number_loss",),
)
