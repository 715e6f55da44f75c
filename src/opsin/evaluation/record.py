"""Storing a split's scores, predictions and pictures of mistakes in the run folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array, Arrays
from opsin.data.samples import Pixels
from opsin.ops.depth import at_depth
from opsin.ops.resize import fit_image
from opsin.runs import Run, RunWriter, SplitScores, read_gallery
from opsin.tasks import get_task
from opsin.tasks.base import Task
from opsin.tasks.targets import Targets
from opsin.types import JsonDict, SizePolicy, SplitName

THUMBNAIL_PX = 96


def record_split(
    run: Run,
    split: SplitName,
    found: SplitScores,
    predictions: Arrays,
    targets: Targets,
    images: Pixels,
) -> None:
    """Update scores.json, predictions.npz and gallery.npz with `split`; other splits are unchanged.

    The scores come last: a run with scores of a split has its predictions too. Scores without copies of training
    images, and with test-time augmentation, are kept if not requested again: network and data are
    unchanged.

    Args:
        run: the run.
        split: the scored split.
        found: its scores.
        predictions: arrays of N rows.
        targets: N targets.
        images: uint8 [N, C, H, W].
    """
    task, writer, openings = get_task(run.task), RunWriter(run), run.log.test_openings
    others = {key: value for name in ("train", "val", "test") if name != split for key, value in _stored(run, name)}
    own = {f"{split}/{key}": value for key, value in (predictions | targets.arrays()).items()}
    writer.predictions(others | own)
    gallery = {key: value for key, value in read_gallery(run.path).items() if key != f"mistakes_{split}"}
    writer.gallery(gallery | split_pictures(task, split, found, predictions, targets, images))
    if split == "test":
        found = replace(found, opened=openings)
        if summary := run.summary:
            writer.summary(replace(summary, test_openings=openings))
    scores = dict(run.scores)
    if (earlier := scores.get(split)) is not None:
        found = replace(found, extra=earlier.extra, **_extras(found, earlier))
    writer.scores(scores | {split: found})


def record_extras(run: Run, split: SplitName, found: SplitScores) -> None:
    """Update scores.json with the extra scores of `split`; the rest is unchanged."""
    if any(_extras(found).values()):
        scores = dict(run.scores)
        earlier = scores[split]
        RunWriter(run).scores(scores | {split: replace(earlier, **_extras(found, earlier))})


def _extras(*sources: SplitScores) -> JsonDict:
    """The optional scores of an evaluation, from the first source that has them."""
    names = ("without_copies", "tta")
    return {name: next((v for s in sources if (v := getattr(s, name)) is not None), None) for name in names}


def split_pictures(
    task: Task,
    split: SplitName,
    found: SplitScores,
    predictions: Arrays,
    targets: Targets,
    images: Pixels,
) -> Arrays:
    """The pictures of a split in the report: its mistakes, and those of the task's own sections.

    Args:
        task: the task.
        split: the scored split.
        found: its scores.
        predictions: arrays of N rows.
        targets: N targets.
        images: uint8 [N, C, H, W].
    """
    shown = dict(task.pictures(images, predictions, targets, found.details))
    if numbers := [mistake["index"] for mistake in found.details.get("mistakes", ())]:
        shown["mistakes"] = thumbnails(at_depth(np.asarray(images[np.array(numbers)]), 8))
    return {f"{name}_{split}": array for name, array in shown.items()}


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images uint8 [n, C, H, W], made smaller where a side is over `THUMBNAIL_PX`."""
    longest = max(images.shape[2:])
    if longest <= THUMBNAIL_PX:
        return np.ascontiguousarray(images)
    height, width = (max(1, round(side * THUMBNAIL_PX / longest)) for side in images.shape[2:])
    policy = SizePolicy(height=height, width=width)
    return np.stack([fit_image(np.asarray(image), policy) for image in images])


def _stored(run: Run, split: SplitName) -> list[tuple[str, Array]]:
    return [(f"{split}/{key}", value) for key, value in run.predictions(split).items()]
