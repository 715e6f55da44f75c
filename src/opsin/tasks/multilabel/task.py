"""Multi-label classification: all classes present in an image.

The target is a row of tags. The head is a linear layer on the backbone's features; the loss is binary cross-entropy of
each class; a prediction is a probability for each class. The threshold of each class is chosen on val and stored in
the artefact.

Shapes: B samples of a batch, N samples of a split, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from opsin.arrays import Array, Arrays
from opsin.errors import DataError
from opsin.models.building import build_with_heads
from opsin.models.registry import ModelSpec
from opsin.models.wrappers.views import Averaging
from opsin.ops.average_precision import class_average_precisions
from opsin.tasks.base import Assessment, Drawing, Fitted, Parts, Task, rgb
from opsin.tasks.cards import TaskCard
from opsin.tasks.common_defaults import Defaults
from opsin.tasks.labels import likeliest_class
from opsin.tasks.multilabel.card import CARD
from opsin.tasks.multilabel.defaults import DEFAULTS
from opsin.tasks.multilabel.scores import (
    fitted_thresholds,
    histogram_parts,
    names_of,
    tag_details,
    tag_scores,
    thresholds_of,
)
from opsin.tasks.targets import Floats, Targets, check_columns, required
from opsin.types import JsonDict, JsonMapping, Prediction, Score

if TYPE_CHECKING:
    from opsin.batches.batch import Batch
    from opsin.config import TrainConfig
    from opsin.data.samples import Samples

SMALLEST = 1e-6
TAGS = Averaging(output="logits", apart=torch.sigmoid, back=lambda means: torch.logit(means, eps=SMALLEST))
"""The independent probabilities of classes are averaged over views."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Multilabel(Task):
    """All classes present in an image.

    `label_smoothing`: share by which 0 and 1 are moved towards one half. `there_weights`: float32 [K], weight of a
    present class against an absent one, or None. `fitted`: thresholds by name, from `fit`.
    """

    card: ClassVar[TaskCard] = CARD
    default_settings: ClassVar[Defaults] = DEFAULTS
    targets: ClassVar[tuple[str, ...]] = ("tags",)
    keeps_fitted: ClassVar[bool] = True
    score_is_of_label: ClassVar[bool] = False

    label_smoothing: float = 0.0
    there_weights: Tensor | None = None
    fitted: Mapping[str, float] | None = None

    def for_training(self, config: TrainConfig, samples: Samples, num_classes: int) -> Multilabel:
        """This task with the smoothing of `config`, and with weights of present rare classes where requested.

        Raises:
            DataError: the samples have no tags.
        """
        weights = None
        if config.class_weights:
            there = _tags(Targets.of(samples)).sum(axis=0)
            odds = (len(samples) - there) / np.maximum(there, 1)
            weights = torch.from_numpy(odds**config.class_weights_power).float()
        return replace(self, label_smoothing=config.label_smoothing, there_weights=weights)

    def with_fitted(self, fitted: Fitted) -> Multilabel:
        """This task with the thresholds chosen on val."""
        return replace(self, fitted=dict(fitted))

    def build(self, spec: ModelSpec, num_classes: int) -> nn.Module:
        """A backbone with a linear head: outputs {"logits": [B, K]}."""
        return build_with_heads(spec, {"logits": num_classes})

    def guessing_loss(self, num_outputs: int) -> tuple[float, str] | None:
        """That of a network that finds each class as likely there as not."""
        return self.first_loss(num_outputs) if self.there_weights is None else None

    @property
    def averaging(self) -> Averaging:
        """The probability of each class."""
        return TAGS

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Mean binary cross-entropy over classes and batch, scalar float32.

        Raises:
            DataError: the batch has no tags.
        """
        true = _batch_tags(batch).float()
        wanted = true.lerp(torch.full_like(true, 0.5), self.label_smoothing)
        return {"loss": _losses(outputs, wanted, self.there_weights).mean()}

    def losses_per_sample(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Mean binary cross-entropy of each sample over its classes: float32 [B]."""
        return _losses(outputs, _batch_tags(batch).float(), None).mean(dim=1)

    def batch_scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Share of images with every class on the right side of one half."""
        called = outputs["logits"].detach() >= 0
        return {"exact_match": (called == _batch_tags(batch).bool()).all(dim=1).float().mean()}

    def decode(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"probabilities": float32 [B, K]}, independent of each other."""
        return {"probabilities": outputs["logits"].float().sigmoid()}

    def fit(self, predictions: Arrays, targets: Targets) -> dict[str, float]:
        """The threshold of each class at which its F1 is best."""
        return fitted_thresholds(predictions["probabilities"], _tags(targets))

    def scores(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, intervals: bool = True
    ) -> dict[str, Score]:
        """Mean average precision, and scores at the thresholds: those of val, or one half if unknown.

        Raises:
            DataError: predictions and tags do not match, or are out of range.
        """
        probabilities, tags = _checked(predictions, targets, classes)
        thresholds = thresholds_of(self.fitted or {}, len(classes))
        return tag_scores(probabilities, tags, thresholds, intervals=intervals)

    def assess(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, fitted: Fitted | None = None
    ) -> Assessment:
        """All scores; each class's scores with its threshold, and the worst predictions.

        Raises:
            DataError: predictions and tags do not match, or are out of range.
        """
        probabilities, tags = _checked(predictions, targets, classes)
        chosen = thresholds_of(self.fit(predictions, targets) if fitted is None else fitted, len(classes))
        return Assessment(
            scores=tag_scores(probabilities, tags, chosen),
            details=tag_details(probabilities, tags, chosen, classes, targets.ids),
        )

    def parts(self, arrays: Mapping[str, Array], num_classes: int) -> Parts:
        """Counts of images at each step of each class's probability."""
        return histogram_parts(arrays["probabilities"], arrays["true_tags"] > 0)

    def by_class(self, parts: Floats, arrays: Mapping[str, Array], num_classes: int) -> Floats:
        """The average precision of each class."""
        tags = arrays["true_tags"] > 0
        found: Floats = class_average_precisions(arrays["probabilities"], tags)[0]
        return found

    def wrong(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], details: JsonMapping
    ) -> list[JsonDict]:
        """The worst predictions, as in the report."""
        return [
            {"index": entry["index"], "id": entry["id"], "label": entry["truth"], "predicted": entry["predicted"]}
            for entry in details["mistakes"]
        ]

    def answer(self, predictions: Arrays, i: int, classes: Sequence[str]) -> Prediction:
        """The classes of image `i`; its score is the probability of the likeliest one."""
        shares = predictions["probabilities"][i]
        called = shares >= thresholds_of(self.fitted or {}, len(classes))
        return replace(likeliest_class(shares, classes), label=names_of(called, classes))

    def draw_target(self, image: NDArray[np.uint8], targets: Targets, i: int, classes: Sequence[str]) -> Drawing:
        """The image, captioned with its classes."""
        return Drawing(pixels=rgb(image), caption=names_of(_tags(targets)[i], classes))

    def draw_prediction(self, image: NDArray[np.uint8], predictions: Arrays, i: int, classes: Sequence[str]) -> Drawing:
        """The image, captioned with the predicted classes."""
        return Drawing(pixels=rgb(image), caption=self.answer(predictions, i, classes).label)


def _losses(outputs: Mapping[str, Tensor], wanted: Tensor, there_weights: Tensor | None) -> Tensor:
    """Binary cross-entropy of each class, float32 [B, K]."""
    logits = outputs["logits"].float()
    weight = None if there_weights is None else there_weights.to(logits)
    return functional.binary_cross_entropy_with_logits(logits, wanted.to(logits), pos_weight=weight, reduction="none")


def _tags(targets: Targets) -> NDArray[np.bool_]:
    """Tags, bool [N, K]."""
    rows = required(targets.tags, "the samples have no tags", expected="a row of 0 and 1 per sample")
    tags: NDArray[np.bool_] = np.asarray(rows) > 0
    return tags


def _batch_tags(batch: Batch) -> Tensor:
    do = "name the classes of each image"
    return required(batch.tags, "the batch has no tags", expected="uint8 [B, K]", do=do)


def _checked(
    predictions: Arrays, targets: Targets, classes: Sequence[str]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Probabilities and tags, [N, K] both, after checking that they can be scored."""
    probabilities, tags = predictions["probabilities"], _tags(targets)
    check_columns(probabilities, tags, len(classes), said="probabilities", kind="tags")
    if not np.isfinite(probabilities).all():
        raise DataError("probabilities are NaN or infinite", do="train with a lower learning rate")
    return probabilities, tags


TASK = Multilabel()
