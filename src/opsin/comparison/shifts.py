"""Accuracy of a classifier on images shifted by a few pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opsin.artifact import load
from opsin.data.samples import Samples
from opsin.errors import ConfigError
from opsin.inference.predictor import Predictor
from opsin.runs import Run
from opsin.tasks import get_task

DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""Down and right, in pixels of the shift."""


def shifted(images: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Images [N, C, H, W] moved by whole pixels; filled by repeating the border.

    >>> shifted(np.array([[[[1, 2, 3]]]], np.uint8), 0, 1).tolist()
    [[[[1, 1, 2]]]]
    """
    height, width = images.shape[2:]
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return np.ascontiguousarray(images[:, :, rows][:, :, :, columns])


def shifted_accuracy(run: Run, samples: Samples, pixels: Sequence[int]) -> dict[int, float]:
    """Accuracy of a classifier on samples that are shifted, by the size of the shift; the mean over four directions.

    Args:
        run: a finished run.
        samples: with labels, packed at the network's size.
        pixels: sizes of shifts; 0 is the images as they are.

    Raises:
        ConfigError: the run is not a classifier.
    """
    artifact = load(run.model_folder)
    if not get_task(artifact.task).one_class or samples.labels is None:
        raise ConfigError("shifts need a classifier", where=run.path, got=artifact.task, do="name a classification run")
    predictor = Predictor(artifact)
    found = {}
    for size in pixels:
        hits = []
        for down, right in DIRECTIONS if size else DIRECTIONS[:1]:
            moved = replace(samples, images=shifted(samples.images, size * down, size * right))
            hits.append(predictor.samples(moved)["probabilities"].argmax(axis=1) == samples.labels)
        found[size] = float(np.mean(hits))
    return found
