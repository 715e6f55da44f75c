"""What a task is: the one interface that classification, localization and segmentation share.

    samples ──> network ──> outputs ──┬─ loss ──────────> training
                                      └─ decode ──> predictions ──> scores, assessment, pictures

A task says what the target is, which heads the network has, what the loss is, how outputs become predictions, what the
scores are, and how a target is drawn. Every other room works through this interface and names no task.

| | classify | localize | segment |
|---|---|---|---|
| target in `Batch`, `Targets` | labels | labels, boxes | masks |
| outputs of the network | logits [B, K] | logits [B, K], boxes [B, 4] | logits [B, K, H, W] |
| predictions (`decode`) | probabilities [B, K] | probabilities [B, K], boxes [B, 4] | masks [B, H, W] |
| main score | accuracy | class right and IoU >= 0.6 | mean IoU |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from opsin.data.targets import KINDS, TargetFields
from opsin.errors import DataError
from opsin.ops.intervals import wilson
from opsin.score_kinds import ScoreKind
from opsin.types import Prediction, Score, SizePolicy, TaskName

if TYPE_CHECKING:
    from torch import Tensor, nn

    from opsin.batches.batch import Batch
    from opsin.config import TrainConfig
    from opsin.data.samples import Samples
    from opsin.models.registry import ModelSpec

Arrays = dict[str, NDArray[Any]]
NUM_TOP = 5
"""Classes that a prediction names at the most."""


@dataclass(frozen=True, kw_only=True)
class Targets(TargetFields[NDArray[Any]]):
    """What predictions of a split are held against: its samples without the images' pixels.

    `ids`: what a person calls each sample. `image_size`: (height, width) of the packed images, in whose pixels boxes
    are. The targets are those of `TargetFields`.
    """

    ids: Sequence[str]
    image_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, samples: Samples) -> Targets:
        """The targets of packed samples."""
        height, width = samples.images.shape[-2:]
        return cls(ids=tuple(samples.ids), image_size=(int(height), int(width)), **samples.mapped(lambda _, rows: rows))

    def take(self, rows: NDArray[np.int64]) -> Targets:
        """The targets of these numbers, in this order."""
        taken = self.mapped(lambda _, values: values[rows])
        return Targets(ids=[self.ids[i] for i in rows], image_size=self.image_size, **taken)

    def arrays(self) -> Arrays:
        """The targets as predictions.npz keeps them: ids, and each kind under its `stored` name.

        Their names differ from those of the predictions, which lie beside them.
        """
        ids: Arrays = {"ids": np.asarray(list(self.ids), dtype=np.str_)}
        return ids | {KINDS[kind].stored: np.asarray(rows) for kind, rows in self.targets.items()}


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """All that is said of a split's predictions.

    `scores`: with 95 % intervals, NaN where undefined. `details`: what the report shows beside them, as plain JSON,
    None for undefined.
    """

    scores: Mapping[str, Score]
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture for a person: `pixels` uint8 [3, h, w] with whatever is drawn into them, and a caption."""

    pixels: NDArray[np.uint8]
    caption: str


@runtime_checkable
class Pictured(Protocol):
    """A task whose report needs more pictures than the samples' own: truth and prediction, pixel by pixel."""

    def pictures(
        self, images: NDArray[np.uint8], predictions: Arrays, targets: Targets, details: Mapping[str, Any]
    ) -> Arrays:
        """Arrays for gallery.npz, by names to which the split's is added; `images` uint8 [N, C, H, W]."""


class Task(Protocol):
    """One task. Instances are small and immutable; `get_task` gives one that can do everything but a weighted loss."""

    @property
    def name(self) -> TaskName:
        """How configs and files call it."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Kinds of target that its samples have, names in `data.targets.KINDS`."""

    @property
    def main_score(self) -> str:
        """The score by which epochs are compared; higher is better."""

    @property
    def score_kinds(self) -> Mapping[str, ScoreKind]:
        """Every score that `scores` can give, in the order of tables."""

    def for_training(self, config: TrainConfig, samples: Samples, num_classes: int) -> Task:
        """The task with the loss that `config` asks for; what must be counted is counted in the training samples."""

    def for_scoring(self, config: TrainConfig) -> Task:
        """The task with the scores that `config` asks for; its losses stay as they are."""

    def build(self, spec: ModelSpec, num_classes: int) -> nn.Module:
        """A new network with this task's heads; called with images it returns the outputs, dict[str, Tensor]."""

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Parts of the training loss, each a scalar mean over the batch; "loss" is their weighted sum."""

    def losses_per_sample(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Plain loss of each sample, without smoothing, weights or mixing: float32 [B]."""

    def batch_scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Cheap scores of a training batch for the log, each a scalar mean over the batch."""

    def decode(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions of B rows: what predictions.npz holds."""

    def fit(self, predictions: Arrays, targets: Targets) -> dict[str, float]:
        """What is fitted to predictions on val and then applied to other splits, e.g. the temperature."""

    def scores(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, intervals: bool = True
    ) -> dict[str, Score]:
        """Scores of a split, with 95 % intervals if asked; NaN where a score is undefined."""

    def assess(
        self,
        predictions: Arrays,
        targets: Targets,
        classes: Sequence[str],
        *,
        fitted: Mapping[str, float] | None = None,
    ) -> Assessment:
        """Scores of a split with intervals, and their details, from one count of what is right.

        Args:
            fitted: what `fit` gave on val; None fits it to these very predictions, which is right on val alone.
        """

    def describe(
        self,
        predictions: Arrays,
        i: int,
        classes: Sequence[str],
        file: str,
        *,
        original_size: tuple[int, int] | None = None,
        policy: SizePolicy | None = None,
        notes: tuple[str, ...] = (),
    ) -> Prediction:
        """What the network says of image `i`.

        Args:
            original_size: (height, width) before the image was fitted to the network's input by `policy`; boxes are
                told in pixels of the original.
        """

    def draw_target(self, image: NDArray[np.uint8], targets: Targets, i: int, classes: Sequence[str]) -> Drawing:
        """Image `i`, uint8 [C, H, W], with its target."""

    def draw_prediction(self, image: NDArray[np.uint8], predictions: Arrays, i: int, classes: Sequence[str]) -> Drawing:
        """Image `i`, uint8 [C, H, W], with what the network says of it."""


def batch_labels(batch: Batch) -> Tensor:
    """Labels of a batch, int64 [B].

    Raises:
        DataError: it has none.
    """
    if batch.labels is None:
        raise DataError("a batch without labels", expected="int64 [B]", do="give a label for each image")
    return batch.labels


def likeliest(probabilities: NDArray[np.floating], classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The `NUM_TOP` likeliest of K classes with their probabilities [K]; of equals the first comes first.

    >>> likeliest(np.array([0.2, 0.5, 0.3]), ("a", "b", "c"))
    (('b', 0.5), ('c', 0.3), ('a', 0.2))
    """
    order = np.argsort(-probabilities, kind="stable")[:NUM_TOP]
    return tuple((str(classes[k]), float(probabilities[k])) for k in order)


def share_score(hits: int, total: int, *, intervals: bool = True) -> Score:
    """The score `hits / total`, with Wilson's 95 % interval if asked; undefined where there is nothing.

    >>> print(share_score(8, 10))
    0.8000 [0.4902, 0.9433]
    """
    if total == 0:
        return Score(np.nan)
    if not intervals:
        return Score(hits / total)
    low, high = wilson(hits, total)
    return Score(hits / total, float(low), float(high))


def rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`image` uint8 [1 or 3, H, W] as uint8 [3, H, W]."""
    return np.repeat(image, 3, axis=0) if image.shape[0] == 1 else image
