"""Keeping a split's scores, predictions and pictures of mistakes in the run folder."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.evaluation.scoring import SplitScores
from opsin.ops.resize import fit_image
from opsin.runs import Run
from opsin.tasks import get_task
from opsin.tasks.base import Arrays, Pictured, Targets, Task
from opsin.types import SizePolicy, SplitName

THUMBNAIL_PX = 96


def record_split(
    run: Run,
    split: SplitName,
    found: SplitScores,
    predictions: Arrays,
    targets: Targets,
    images: NDArray[np.uint8],
) -> None:
    """Write scores.json, predictions.npz and gallery.npz anew with `split` in them; other splits stay as they are.

    The scores come last: a run whose scores name a split has its predictions too.

    Args:
        run: where.
        split: which split was scored.
        found: its scores.
        predictions: arrays of N rows.
        targets: N targets.
        images: uint8 [N, C, H, W].
    """
    task = get_task(run.data["task"])
    others = {key: value for name in ("train", "val", "test") if name != split for key, value in _stored(run, name)}
    own = {f"{split}/{key}": value for key, value in (predictions | targets.arrays()).items()}
    run.write_arrays("predictions.npz", others | own)
    gallery = {key: value for key, value in run.gallery().items() if key != f"mistakes_{split}"}
    if numbers := [mistake["index"] for mistake in found.details.get("mistakes", [])]:
        gallery[f"mistakes_{split}"] = np.stack([_thumbnail(images[i]) for i in numbers])
    gallery |= split_pictures(task, split, found, predictions, targets, images)
    run.write_arrays("gallery.npz", gallery)
    entry: dict[str, Any] = found.to_json()
    if split == "test":
        entry["opened"] = run.test_openings
        if run.summary:
            run.write("summary.json", run.summary | {"test_openings": run.test_openings})
    run.write("scores.json", run.results | {split: entry})


def split_pictures(
    task: Task,
    split: SplitName,
    found: SplitScores,
    predictions: Arrays,
    targets: Targets,
    images: NDArray[np.uint8],
) -> Arrays:
    """What the task's own sections of the report show of a split; nothing for tasks without such pictures."""
    if not isinstance(task, Pictured):
        return {}
    shown = task.pictures(images, predictions, targets, found.details)
    return {f"{name}_{split}": array for name, array in shown.items()}


def _stored(run: Run, split: SplitName) -> list[tuple[str, NDArray[Any]]]:
    return [(f"{split}/{key}", value) for key, value in run.predictions(split).items()]


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [C, H, W], made smaller where a side is over `THUMBNAIL_PX`."""
    scale = THUMBNAIL_PX / max(image.shape[1:])
    if scale >= 1:
        return np.asarray(image)
    height, width = (max(1, round(side * scale)) for side in image.shape[1:])
    return fit_image(np.asarray(image), SizePolicy(height=height, width=width))
