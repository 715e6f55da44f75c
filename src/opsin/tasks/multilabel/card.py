"""Multi-label classification without PyTorch: its scores, and its question."""

from __future__ import annotations

import math

from opsin.tasks.cards import ScoreKind, TaskCard, loss_kind

SCORE_KINDS = {
    "mean_average_precision": ScoreKind(
        title="Mean average precision",
        words="average precision of ranking images by each class's probability, mean over classes",
    ),
    "micro_average_precision": ScoreKind(
        title="Micro average precision", words="the same over all pairs of an image and a class as one"
    ),
    "macro_f1": ScoreKind(title="Macro F1", words="mean F1 over classes, each at its threshold"),
    "micro_f1": ScoreKind(title="Micro F1", words="F1 of all pairs of an image and a class, at the thresholds"),
    "exact_match": ScoreKind(title="Exact match", words="images with every class right, at the thresholds"),
    "loss": loss_kind("Loss", "mean binary cross-entropy over classes (nats)"),
}
CARD = TaskCard(
    name="multilabel",
    hub_tag="image-classification",
    main_score="mean_average_precision",
    score_kinds=SCORE_KINDS,
    question="What is there?",
    words="multi-label classification: each class that is there, in each image",
    first_loss=lambda _: (math.log(2), "ln 2"),
    part_score="average_precision",
)
