"""Per-sample outcomes of a run, as sums that determine its main score.

Shapes: N samples, M sums, r resamples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.data.targets import KINDS
from opsin.errors import RunError
from opsin.runs import Run
from opsin.tasks import Task, get_task, task_names
from opsin.types import SplitName

Floats = NDArray[np.float64]
Arrays = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """One run on one split.

    Attributes:
        score: name of the task's main score.
        parts: float64 [N, M], what each sample adds to the sums.
        of_sums: main scores [r] of sums [r, M].
        is_share: whether the score is the share of samples that are right.
        bounded: whether the score cannot leave 0 to 1.
        samples: fingerprint of the samples and their targets: runs with the same one can be paired.
        good_iou: least IoU of a good box; None without boxes.
    """

    score: str
    parts: Floats
    of_sums: Callable[[Floats], Floats]
    is_share: bool
    bounded: bool
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
    arrays, name = run.predictions(split), str(run.data.task)
    if not arrays or name not in task_names():
        raise RunError("the run has no predictions to compare", where=run.path, expected=f"predictions on {split}")
    try:
        task = get_task(name).for_scoring(run.config.train)
        return outcomes_of_arrays(task, arrays, num_classes=len(run.data.classes))
    except KeyError as error:
        do = "train it again: an older version of Opsin did not store what is needed"
        raise RunError("the predictions are incomplete", where=run.path, got=f"no {error}", do=do) from error


def outcomes_of_arrays(task: Task, arrays: Arrays, *, num_classes: int) -> Outcomes:
    """What was got right, from predictions and targets of N samples as predictions.npz holds them.

    Args:
        task: with the scores that the run's settings ask for (`Task.for_scoring`).
        arrays: predictions and targets.
        num_classes: K.

    Raises:
        KeyError: an array that the task needs is missing.
    """
    parts, of_sums = task.parts(arrays, num_classes)
    return Outcomes(
        score=task.main_score,
        parts=parts,
        of_sums=of_sums,
        is_share=task.is_share,
        bounded=task.score_kinds[task.main_score].bounded,
        samples=_fingerprint(arrays),
        good_iou=task.good_iou,
    )


def _fingerprint(arrays: Arrays) -> str:
    """SHA-256 of the ids and the targets."""
    digest = hashlib.sha256("\n".join(arrays["ids"].tolist()).encode())
    for kind in KINDS.values():
        if kind.stored in arrays:
            digest.update(np.ascontiguousarray(arrays[kind.stored]).tobytes())
    return digest.hexdigest()
