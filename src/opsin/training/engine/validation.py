"""Scores on val, after each epoch."""

from __future__ import annotations

import time
from typing import Any

import torch

from opsin.artifact import Artifact
from opsin.batches.loader import gather
from opsin.data.samples import Samples
from opsin.inference.predictor import Predictor
from opsin.tasks.base import Arrays, Targets, Task
from opsin.training.features import Features, head_predictions

PROBED = 16
"""Images whose scoring is timed, so that a budget in minutes has room for all."""


class Validation:
    """Scores a network on val.

    Args:
        task: gives the scores.
        artifact: the network that is trained, under its contract.
        samples: val; None scores nothing.
        features: frozen features; with those of val the heads alone are computed.
        device: where.
    """

    def __init__(
        self, task: Task, artifact: Artifact, samples: Samples | None, features: Features | None, device: torch.device
    ) -> None:
        self.task, self.artifact, self.samples, self.device = task, artifact, samples, device
        self.features = features
        self.answers: Arrays | None = None
        """What the network said of val when it was scored last, where its task decides one class for each image."""
        self.seconds_per_image = 0.0
        """Time that scoring takes, where images are looked at."""

    @property
    def num_images(self) -> int:
        """Images that are looked at for each score; none where there are features of them."""
        return 0 if self.samples is None or self.features is not None else len(self.samples)

    def scores(self) -> dict[str, float]:
        """Scores of the network as it stands; empty without val."""
        if self.samples is None:
            return {}
        began = time.monotonic()
        predictions = self._predictions(self.samples)
        self.answers = predictions if self.task.card.decides_class else None
        scores = self.task.scores(predictions, Targets.of(self.samples), self.artifact.classes, intervals=False)
        if self.features is None:
            self.seconds_per_image = (time.monotonic() - began) / len(self.samples)
        return {key: score.value for key, score in scores.items()}

    def wrong(self) -> list[dict[str, Any]]:
        """The samples of val that are answered wrongly at present, the surest first; empty where that is not known."""
        if self.samples is None or self.answers is None:
            return []
        return self.task.wrong(self.answers, Targets.of(self.samples), self.artifact.classes, {})

    def probe(self) -> None:
        """Time the scoring of a few images, where none is known yet."""
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
