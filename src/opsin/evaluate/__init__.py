"""Scores of a trained network on a split, or on another data set."""

from __future__ import annotations

from opsin.evaluate.evaluation import Evaluation, evaluate
from opsin.evaluate.record import record_split
from opsin.evaluate.scoring import SplitScores, evaluate_predictions

__all__ = ["Evaluation", "SplitScores", "evaluate", "evaluate_predictions", "record_split"]
