"""Scores of a trained network on a split, or on another data set."""

from __future__ import annotations

from opsin.evaluation.evaluation import Evaluation, evaluate
from opsin.evaluation.record import record_split
from opsin.evaluation.scoring import evaluate_predictions
from opsin.runs import AugmentedScores, SplitScores, WithoutCopies

__all__ = [
    "AugmentedScores",
    "Evaluation",
    "SplitScores",
    "WithoutCopies",
    "evaluate",
    "evaluate_predictions",
    "record_split",
]
