"""Scores on val, after each epoch."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import torch

from opsin.arrays import Arrays
from opsin.artifact import Artifact
from opsin.batches.loader import gather
from opsin.data.samples import Samples
from opsin.group import ALONE, Group
from opsin.inference.predictor import Predictor
from opsin.tasks.base import Task
from opsin.tasks.targets import Targets
from opsin.training.engine.shards import holds_parts
from opsin.training.features import Features, head_predictions
from opsin.types import JsonDict

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
        group: processes that share the images; each of them is given the scores of all.
    """

    def __init__(
        self,
        task: Task,
        artifact: Artifact,
        samples: Samples | None,
        features: Features | None,
        device: torch.device,
        *,
        group: Group = ALONE,
    ) -> None:
        self.group = group
        self.task, self.artifact, self.samples, self.device = task, artifact, samples, device
        self.features = features
        self.answers: Arrays | None = None
        """What the network said of val when it was scored last, where its task decides one class for each image."""
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
        self.answers = predictions if self.task.card.decides_class and self.group.leads else None
        values = self._values(predictions, self.samples) if self.group.leads else {}
        if self.features is None:
            self.seconds_per_image = (time.monotonic() - began) / len(self.samples)
        shared: dict[str, float] = self.group.shared_plain(values)
        return shared

    def _values(self, predictions: Arrays, samples: Samples) -> dict[str, float]:
        scores = self.task.scores(predictions, Targets.of(samples), self.artifact.classes, intervals=False)
        return {key: score.value for key, score in scores.items()}

    def wrong(self) -> list[JsonDict]:
        """The samples of val that are answered wrongly at present, the surest first; empty where that is not known."""
        if self.samples is None or self.answers is None:
            return []
        return self.task.wrong(self.answers, Targets.of(self.samples), self.artifact.classes, {})

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
        """Of all samples, in their order; those of other processes are known to the lead alone."""
        if self.features is not None and self.features.val is not None:
            return head_predictions(self.artifact.network, self.task, self.features.val, self.device)
        return shared_predictions(Predictor(self.artifact, device=self.device), samples, self.group)


def shared_predictions(predictor: Predictor, samples: Samples, group: Group) -> Arrays:
    """Predictions of a split that the processes of a group share; on the lead those of all samples, in their order.

    What is shared are whole batches of the predictor's, so that each answer has the bits that it has on one process.
    """
    if group.alone:
        return predictor.samples(samples)
    count, size = len(samples), predictor.batch_size
    num_batches = -(-count // size)
    cuts = [min(-(-rank * num_batches // group.size) * size, count) for rank in range(group.size + 1)]
    start, stop = cuts[group.rank : group.rank + 2]
    own = predictor.samples(_cut(samples, start, stop)) if start < stop else {}
    if holds_parts(predictor.network):
        most = max(-(-(after - before) // size) for before, after in itertools.pairwise(cuts))
        for _ in range(most + -(stop - start) // size):  # a pass is one of all processes
            predictor.run(gather(samples, torch.zeros(1, dtype=torch.int64)).images)
    return group.gathered_rows(own, [after - before for before, after in itertools.pairwise(cuts)])


def _cut(samples: Samples, start: int, stop: int) -> Samples:
    """The samples from `start` to `stop` - 1, without a copy."""
    return replace(
        samples,
        images=samples.images[start:stop],
        ids=samples.ids[start:stop],
        sizes=samples.sizes[start:stop],
        **samples.mapped(lambda _, rows: rows[start:stop]),
    )
