"""Classification: one label per image.

The target is a label. The head is a linear layer on the backbone's features; the loss is cross-entropy; a prediction
is the softmax's probabilities.

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

from opsin.arrays import Array, Arrays
from opsin.models.building import build_with_heads
from opsin.models.convert import fully_convolutional
from opsin.models.parts.network import Network
from opsin.models.registry import FULLY_CONVOLUTIONAL, ModelSpec
from opsin.ops.calibration import fit_temperature
from opsin.ops.losses import cross_entropy
from opsin.ops.scores import check_predictions
from opsin.tasks.base import Assessment, Drawing, Fitted, Parts, Task, rgb
from opsin.tasks.cards import TaskCard
from opsin.tasks.classify.card import CARD
from opsin.tasks.classify.defaults import DEFAULTS
from opsin.tasks.classify.scores import classification_details, classification_scores
from opsin.tasks.common_defaults import Defaults
from opsin.tasks.labels import batch_labels, hits, label_weights, likeliest_class, wrong_classes
from opsin.tasks.targets import Targets, required
from opsin.types import JsonDict, Prediction, Score

if TYPE_CHECKING:
    from opsin.batches.batch import Batch
    from opsin.config import TrainConfig
    from opsin.data.samples import Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Classify(Task):
    """One label per image.

    `label_smoothing`: share of the target spread over all classes. `class_weights`: float32 [K] or None.
    """

    card: ClassVar[TaskCard] = CARD
    default_settings: ClassVar[Defaults] = DEFAULTS
    targets: ClassVar[tuple[str, ...]] = ("labels",)
    one_class: ClassVar[bool] = True
    is_share: ClassVar[bool] = True

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def for_training(self, config: TrainConfig, samples: Samples, num_classes: int) -> Classify:
        """This task with the smoothing and the class weights of `config`.

        Raises:
            DataError: the samples have no labels.
        """
        weights = label_weights(_labels(Targets.of(samples)), num_classes, config)
        return replace(self, label_smoothing=config.label_smoothing, class_weights=weights)

    def build(self, spec: ModelSpec, num_classes: int) -> nn.Module:
        """A backbone with a linear head: outputs {"logits": [B, K]}."""
        network = build_with_heads(spec, {"logits": num_classes})
        if isinstance(network, Network) and spec.options.get(FULLY_CONVOLUTIONAL):
            return fully_convolutional(network)
        return network

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Mean cross-entropy of the batch, scalar float32.

        Raises:
            DataError: the batch has no labels.
        """
        mixed = batch.mixed
        losses = cross_entropy(
            outputs["logits"],
            batch_labels(batch),
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
            partner=None if mixed is None else mixed.labels,
            share=None if mixed is None else mixed.share,
        )
        return {"loss": losses.mean()}

    def losses_per_sample(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Negative log likelihood of each sample's label: float32 [B]."""
        return cross_entropy(outputs["logits"], batch_labels(batch))

    def batch_scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Accuracy of the batch; a mixed sample counts by the share of the predicted label."""
        predicted = outputs["logits"].detach().argmax(dim=1)
        right = (predicted == batch_labels(batch)).float()
        if batch.mixed is not None:
            partner_right = (predicted == batch.mixed.labels).float()
            right = torch.lerp(partner_right, right, batch.mixed.share)
        return {"accuracy": right.mean()}

    def decode(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"probabilities": float32 [B, K]}, rows of sum 1."""
        return {"probabilities": outputs["logits"].float().softmax(dim=1)}

    def fit(self, predictions: Arrays, targets: Targets) -> dict[str, float]:
        """{"temperature": best divisor of the logits, or NaN without an optimum}."""
        probabilities, labels = _checked(predictions, targets)
        return {"temperature": fit_temperature(probabilities, labels)}

    def scores(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, intervals: bool = True
    ) -> dict[str, Score]:
        """Accuracy, top-5 (more than 5 classes), means over classes, loss, Brier score, calibration errors.

        Raises:
            DataError: predictions and labels do not match, or are out of range.
        """
        probabilities, labels = _checked(predictions, targets, classes)
        return classification_scores(probabilities, labels, intervals=intervals)

    def assess(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, fitted: Fitted | None = None
    ) -> Assessment:
        """All scores; confusion matrix, each class's scores, reliability curve, temperature, most confident mistakes.

        Raises:
            DataError: predictions and labels do not match, or are out of range.
        """
        probabilities, labels = _checked(predictions, targets, classes)
        temperature = (self.fit(predictions, targets) if fitted is None else fitted)["temperature"]
        return Assessment(
            scores=classification_scores(probabilities, labels),
            details=classification_details(probabilities, labels, classes, targets.ids, temperature=temperature),
        )

    def parts(self, arrays: Mapping[str, Array], num_classes: int) -> Parts:
        """Images whose class is right."""
        return hits(arrays["probabilities"].argmax(axis=1) == arrays["labels"])

    def wrong(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], details: Mapping[str, object]
    ) -> list[JsonDict]:
        """Every sample whose class is wrong, the most confident first."""
        return wrong_classes(predictions["probabilities"], _labels(targets), classes, targets.ids)

    def answer(self, predictions: Arrays, i: int, classes: Sequence[str]) -> Prediction:
        """The likeliest class of image `i`, and at most five classes with their probabilities."""
        return likeliest_class(predictions["probabilities"][i], classes)

    def draw_target(self, image: NDArray[np.uint8], targets: Targets, i: int, classes: Sequence[str]) -> Drawing:
        """The image, captioned with its class."""
        return Drawing(pixels=rgb(image), caption=str(classes[_labels(targets)[i]]))

    def draw_prediction(self, image: NDArray[np.uint8], predictions: Arrays, i: int, classes: Sequence[str]) -> Drawing:
        """The image, captioned with the likeliest class and its probability."""
        said = self.answer(predictions, i, classes)
        return Drawing(pixels=rgb(image), caption=f"{said.label} {said.score:.0%}")


def _labels(targets: Targets) -> NDArray[np.int64]:
    return required(targets.labels, "these samples have no labels", expected="one label for each sample")


def _checked(
    predictions: Arrays, targets: Targets, classes: Sequence[str] | None = None
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Probabilities [N, K] and labels [N], after checking that they can be scored."""
    probabilities, labels = predictions["probabilities"], _labels(targets)
    check_predictions(probabilities, labels, classes)
    return probabilities, labels


TASK = Classify()
