"""Scores on val, after each epoch."""

from __future__ import annotations

import time

import torch

from opsin.artifact import Artifact
from opsin.batches.loader import gather
from opsin.data.samples import Samples
from opsin.inference.predictor import Predictor
from opsin.tasks.base import Arrays, Targets, Task
from opsin.training.features import Features, head_predictions

PROBED = 16
"""Number of images whose scoring is timed, to reserve time in a budget."""


class Validation:
    """Scores a network on val.

    Args:
        task: gives the scores.
        artifact: the network that is trained, with its input contract.
        samples: val; None scores nothing.
        features: frozen features; with those of val only the heads are computed.
        device: where.
    """

    def __init__(
        self, task: Task, artifact: Artifact, samples: Samples | None, features: Features | None, device: torch.device
    ) -> None:
        self.task, self.artifact, self.samples, self.device = task, artifact, samples, device
        self.features = features
        self.seconds_per_image = 0.0
        """Time that scoring takes, where images are looked at."""

    @property
    def num_images(self) -> int:
        """Number of images scored each time; 0 where features of them are used."""
        return 0 if self.samples is None or self.features is not None else len(self.samples)

    def scores(self) -> dict[str, float]:
        """Scores of the network in its current state; empty without val."""
        if self.samples is None:
            return {}
        began = time.monotonic()
        predictions = self._predictions(self.samples)
        scores = self.task.scores(predictions, Targets.of(self.samples), self.artifact.classes, intervals=False)
        if self.features is None:
            self.seconds_per_image = (time.monotonic() - began) / len(self.samples)
        return {key: score.value for key, score in scores.items()}

    def probe(self) -> None:
        """Time the scoring of a few images, if not yet known."""
        if self.samples is None or self.seconds_per_image:
            return
        images = gather(self.samples, torch.arange(min(PROBED, len(self.samples)))).images
        predictor = Predictor(self.artifact, device=self.device)
        predictor.run(images)
        began = time.monotonic()
        predictor.run(images)
        self.seconds_per_image = (time.monotonic() - began) / len(images)

    def _predictions(self, samples: Samples) -> Arrays:
        if self.features is not None and self.features.val is not None:
            return head_predictions(self.artifact.network, self.task, self.features.val, self.device)
        return Predictor(self.artifact, device=self.device).samples(samples)
