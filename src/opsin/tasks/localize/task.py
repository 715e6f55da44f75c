"""Localization: the class of the one object of an image, and its box.

The target is a label and a box. The network has a class head and a box head (`models.localizer`); the loss is
cross-entropy and one of the losses of `ops.boxes`, with a fixed or learned weight; a prediction is the
softmax's probabilities and a box in pixels.

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
from opsin.config import BoxLossName
from opsin.errors import ConfigError, DataError
from opsin.models.architectures.localizer import Localizer, build_localizer
from opsin.models.registry import ModelSpec
from opsin.ops.box_pictures import PREDICTED, TRUE, draw_box
from opsin.ops.boxes import area, box_losses, iou, weighted_by_uncertainty
from opsin.ops.losses import cross_entropy
from opsin.ops.resize import unfit_boxes
from opsin.ops.scores import check_predictions
from opsin.tasks.base import Assessment, Drawing, Fitted, Parts, Task, rgb
from opsin.tasks.cards import ScoreKind, TaskCard
from opsin.tasks.common_defaults import Defaults
from opsin.tasks.labels import batch_labels, hits, label_weights, likeliest, likeliest_class, wrong_classes
from opsin.tasks.localize.card import CARD
from opsin.tasks.localize.defaults import DEFAULTS
from opsin.tasks.localize.scores import GOOD_IOU, Outcomes, localization_details, localization_scores
from opsin.tasks.targets import Targets, required
from opsin.types import JsonDict, Prediction, Score, SizePolicy

if TYPE_CHECKING:
    from opsin.batches.batch import Batch
    from opsin.config import TrainConfig
    from opsin.data.samples import Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Localize(Task):
    """One label and one box per image.

    `box_loss`: as in `TrainConfig`; None if the training of a network is unknown, and then no box loss
    is scored. `box_weight`: weight of the box's loss. `learn_weights`: learn it instead. `threshold`: least
    IoU of a good box. `label_smoothing`, `class_weights`: as in classification.
    """

    card: ClassVar[TaskCard] = CARD
    default_settings: ClassVar[Defaults] = DEFAULTS
    targets: ClassVar[tuple[str, ...]] = ("labels", "boxes")
    gives_boxes: ClassVar[bool] = True
    num_explained: ClassVar[int] = 5
    is_share: ClassVar[bool] = True
    reads_good_iou: ClassVar[bool] = True

    box_loss: BoxLossName | None = None
    box_weight: float = 1.0
    learn_weights: bool = False
    threshold: float = GOOD_IOU
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    @property
    def score_kinds(self) -> Mapping[str, ScoreKind]:
        kinds = self.card.score_kinds
        good = replace(kinds["good_boxes"], title=f"Good boxes, IoU at least {self.threshold:g}")
        return {**kinds, "good_boxes": good}

    def for_training(self, config: TrainConfig, samples: Samples, num_classes: int) -> Localize:
        """This task with the losses of `config`.

        Raises:
            DataError: the samples have no labels or no boxes.
        """
        labels, _ = _known(Targets.of(samples))
        return replace(
            self,
            box_loss=config.box_loss,
            box_weight=config.box_weight,
            learn_weights=config.learn_weights,
            threshold=config.good_iou,
            label_smoothing=config.label_smoothing,
            class_weights=label_weights(labels, num_classes, config),
        )

    def for_scoring(self, config: TrainConfig) -> Localize:
        """This task with the IoU threshold of `config`."""
        return replace(self, threshold=config.good_iou)

    @property
    def good_iou(self) -> float | None:
        """The same, as the comparison of runs asks for it."""
        return self.threshold

    def build(self, spec: ModelSpec, num_classes: int) -> nn.Module:
        """A network with a class head and a box head: outputs {"logits": [B, K], "boxes": [B, 4]}."""
        network = build_localizer(spec, num_classes)
        if isinstance(network, Localizer):
            network.log_variances.requires_grad_(self.learn_weights)
        elif self.learn_weights:
            what, do = "a user-defined network has no loss weights to learn", "leave --learn-weights out"
            raise ConfigError(what, where="learn_weights", got=spec.name, do=do)
        return network

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Mean losses of the batch: "class_loss", "box_loss", and their weighted sum "loss"; scalar float32.

        Learned weights are returned too. A box that augmentation has moved out of its
        image has no loss.

        Raises:
            DataError: the batch has no labels or no boxes.
        """
        class_losses = cross_entropy(
            outputs["logits"],
            batch_labels(batch),
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
        )
        parts = {"class_loss": class_losses.mean(), "box_loss": self._box_losses(outputs["boxes"], batch).mean()}
        if not self.learn_weights:
            return {"loss": parts["class_loss"] + self.box_weight * parts["box_loss"], **parts}
        log_variances = outputs["log_variances"]
        total = weighted_by_uncertainty(torch.stack([parts["class_loss"], parts["box_loss"]]), log_variances)
        weights = dict(zip(("class_weight", "box_weight"), torch.exp(-log_variances.detach()), strict=True))
        return {"loss": total, **parts, **weights}

    def loss_allowance(self, config: TrainConfig) -> float:
        """The allowance of the box loss, which is at most 2 for a box inside its image."""
        return 2 * config.box_weight

    def losses_per_sample(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Negative log likelihood and the box's loss of each sample, with the fixed weight: float32 [B]."""
        class_losses = cross_entropy(outputs["logits"], batch_labels(batch))
        return class_losses + self.box_weight * self._box_losses(outputs["boxes"], batch)

    def _box_losses(self, boxes: Tensor, batch: Batch) -> Tensor:
        """The box's loss of each sample, [B]; coordinates count as shares of the image's sides."""
        true = _batch_boxes(batch)
        height, width = batch.images.shape[-2:]
        sides = boxes.new_tensor([width, height, width, height])
        losses = box_losses(self.box_loss or "giou", boxes / sides, true.to(boxes) / sides)
        return torch.where(area(true) > 0, losses, torch.zeros_like(losses))

    def batch_scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Accuracy, mean IoU, good boxes and both of the batch."""
        right = outputs["logits"].detach().argmax(dim=1) == batch_labels(batch)
        overlap = iou(outputs["boxes"].detach(), _batch_boxes(batch).to(outputs["boxes"]))
        good = overlap >= self.threshold
        return {
            "accuracy": right.float().mean(),
            "mean_iou": overlap.mean(),
            "good_boxes": good.float().mean(),
            "joint_accuracy": (right & good).float().mean(),
        }

    def decode(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"probabilities": float32 [B, K], "boxes": float32 [B, 4] xyxy in pixels of the network's input}."""
        return {"probabilities": outputs["logits"].float().softmax(dim=1), "boxes": outputs["boxes"].float()}

    def scores(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, intervals: bool = True
    ) -> dict[str, Score]:
        """Accuracy, mean and median IoU, good boxes, joint accuracy, errors in pixels; losses of a known training.

        Raises:
            DataError: predictions and targets do not match, or are out of range.
        """
        return self._scores(_outcomes(predictions, targets, classes), targets.image_size, intervals=intervals)

    def _scores(
        self, outcomes: Outcomes, image_size: tuple[int, int] | None, *, intervals: bool = True
    ) -> dict[str, Score]:
        found = localization_scores(outcomes, threshold=self.threshold, intervals=intervals)
        ordered = {name: found[name] for name in self.score_kinds if name in found}
        return ordered | self._loss_scores(outcomes, image_size)

    def _loss_scores(self, outcomes: Outcomes, image_size: tuple[int, int] | None) -> dict[str, Score]:
        """The training losses, without smoothing and class weights; none if unknown."""
        if self.box_loss is None or image_size is None:
            return {}
        sides = torch.tensor([*image_size[::-1], *image_size[::-1]], dtype=torch.float64)
        pair = (torch.from_numpy(np.asarray(b, np.float64)) / sides for b in (outcomes.boxes, outcomes.true_boxes))
        class_loss = float(outcomes.log_losses.mean())
        box_loss = float(box_losses(self.box_loss, *pair).mean())
        parts = {"class_loss": Score(class_loss), "box_loss": Score(box_loss)}
        return parts if self.learn_weights else {"loss": Score(class_loss + self.box_weight * box_loss), **parts}

    def assess(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, fitted: Fitted | None = None
    ) -> Assessment:
        """All scores; good and bad boxes, the curve over thresholds, errors, each class, the samples of the gallery.

        Raises:
            DataError: predictions and targets do not match, or are out of range.
        """
        outcomes = _outcomes(predictions, targets, classes)
        details = localization_details(
            outcomes, classes, targets.ids, threshold=self.threshold, image_size=targets.image_size
        )
        return Assessment(scores=self._scores(outcomes, targets.image_size), details=details)

    def parts(self, arrays: Mapping[str, Array], num_classes: int) -> Parts:
        """Images with the right class and a good box."""
        right = arrays["probabilities"].argmax(axis=1) == arrays["labels"]
        overlap = iou(arrays["boxes"].astype(np.float64), arrays["true_boxes"].astype(np.float64))
        return hits(right & (overlap >= self.threshold))

    def wrong(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], details: Mapping[str, object]
    ) -> list[JsonDict]:
        """Every sample whose class is wrong, the most confident first."""
        return wrong_classes(predictions["probabilities"], _known(targets)[0], classes, targets.ids)

    def answer(self, predictions: Arrays, i: int, classes: Sequence[str]) -> Prediction:
        """The likeliest class of image `i`, and its box."""
        return replace(likeliest_class(predictions["probabilities"][i], classes), box=_corners(predictions["boxes"][i]))

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
        """The likeliest class of image `i`, and its box in pixels of the original, clipped at the edge."""
        said = super().describe(predictions, i, classes, file, notes=notes)
        if original_size is None or policy is None:
            return said
        height, width = original_size
        box = np.clip(unfit_boxes(predictions["boxes"][i], height, width, policy), 0, [width, height, width, height])
        return replace(said, box=_corners(box))

    def draw_target(self, image: NDArray[np.uint8], targets: Targets, i: int, classes: Sequence[str]) -> Drawing:
        """The image with the true box, captioned with its class."""
        labels, boxes = _known(targets)
        return Drawing(pixels=draw_box(rgb(image), boxes[i], TRUE), caption=str(classes[labels[i]]))

    def draw_prediction(self, image: NDArray[np.uint8], predictions: Arrays, i: int, classes: Sequence[str]) -> Drawing:
        """The image with the predicted box, captioned with the likeliest class and its probability."""
        label, probability = likeliest(predictions["probabilities"][i], classes)[0]
        pixels = draw_box(rgb(image), predictions["boxes"][i], PREDICTED)
        return Drawing(pixels=pixels, caption=f"{label} {probability:.1%}")


def _known(targets: Targets) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if targets.labels is None or targets.boxes is None:
        got = "no labels" if targets.labels is None else "no boxes"
        raise DataError("samples lack a label or a box", got=got, expected="one label and one box each")
    return targets.labels, targets.boxes


def _batch_boxes(batch: Batch) -> Tensor:
    do = "localization needs a box for each image"
    return required(batch.boxes, "the batch has no boxes", expected="float32 [B, 4]", do=do)


def _corners(box: NDArray[np.floating]) -> tuple[float, float, float, float]:
    """A box [4] as plain numbers."""
    x1, y1, x2, y2 = (float(x) for x in box)
    return x1, y1, x2, y2


def _outcomes(predictions: Arrays, targets: Targets, classes: Sequence[str]) -> Outcomes:
    """Per-sample values behind the scores, after checking the predictions."""
    labels, true = _known(targets)
    probabilities, boxes = predictions["probabilities"], predictions["boxes"]
    check_predictions(probabilities, labels, classes)
    if boxes.shape != true.shape or not np.isfinite(boxes).all():
        raise DataError("the predicted boxes cannot be scored", got=list(boxes.shape), expected=list(true.shape))
    return Outcomes.of(probabilities, boxes, labels, true)


TASK = Localize()
