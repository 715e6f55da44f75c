"""Per-sample outcomes of a run, as sums that determine its main score.

Shapes: N samples, M sums, r resamples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.data.targets import KINDS
from opsin.errors import RunError
from opsin.runs import Run
from opsin.tasks import get_task, task_names
from opsin.types import SplitName

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """One run on one split.

    Attributes:
        score: name of the task's main score.
        parts: float64 [N, M], what each sample adds to the sums.
        of_sums: main scores [r] of sums [r, M].
        is_share: whether the score is the share of samples that are right.
        samples: fingerprint of the samples and their targets: runs with the same one can be paired.
        good_iou: least IoU of a good box; None without boxes.
    """

    score: str
    parts: Floats
    of_sums: Callable[[Floats], Floats]
    is_share: bool
    samples: str
    good_iou: float | None = None

    @property
    def value(self) -> float:
        """The main score of the run."""
        return float(self.of_sums(self.parts.sum(axis=0, keepdims=True))[0])


def outcomes_of(run: Run, split: SplitName = "val") -> Outcomes:
    """Outcomes of a run, from its predictions.npz.

    Raises:
        RunError: the run has no predictions on that split, or they are incomplete.
    """
    arrays, task = run.predictions(split), str(run.data.task)
    if not arrays or task not in task_names():
        raise RunError("the run has no predictions to compare", where=run.path, expected=f"predictions on {split}")
    try:
        return outcomes_of_arrays(task, arrays, num_classes=len(run.data.classes), good_iou=run.config.train.good_iou)
    except KeyError as error:
        do = "train it again: an older version of Opsin did not store what is needed"
        raise RunError("the predictions are incomplete", where=run.path, got=f"no {error}", do=do) from error


def outcomes_of_arrays(name: str, arrays: Arrays, *, num_classes: int, good_iou: float) -> Outcomes:
    """Outcomes from predictions and targets of N samples as in predictions.npz.

    Raises:
        KeyError: an array that the task needs is missing.
    """
    task = get_task(name)
    parts, of_sums = task.parts(arrays, num_classes, good_iou=good_iou)
    return Outcomes(
        score=task.main_score,
        parts=parts,
        of_sums=of_sums,
        is_share=task.is_share,
        samples=_fingerprint(arrays),
        good_iou=good_iou if task.reads_good_iou else None,
    )


def _fingerprint(arrays: Arrays) -> str:
    """SHA-256 of the ids and the targets."""
    digest = hashlib.sha256("\n".join(arrays["ids"].tolist()).encode())
    for kind in KINDS.values():
        if kind.stored in arrays:
            digest.update(np.ascontiguousarray(arrays[kind.stored]).tobytes())
    return digest.hexdigest()
