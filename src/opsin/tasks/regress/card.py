"""Regression without PyTorch: its scores, and its question."""

from __future__ import annotations

from opsin.tasks.cards import ScoreKind, TaskCard, loss_kind

SCORE_KINDS = {
    "r2": ScoreKind(
        title="R²",
        words="share of the variance that is explained, mean over numbers; 0 for always the mean, or below",
        bounded=False,
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
    first_loss=lambda _: (1.0, "the variance"),
    part_score="r2",
)
