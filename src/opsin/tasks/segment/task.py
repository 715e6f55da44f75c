"""Segmentation: one class for each pixel.

The target is a mask. The network is a backbone with a decoder over its pyramid; the loss is one of `ops.mask_losses`;
a prediction is a mask, and the uncertainty of each pixel.

Shapes: B images of a batch, N images of a split, K classes, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from opsin.arrays import Array, Arrays
from opsin.config import MaskLossName
from opsin.data.samples import Pixels
from opsin.models.building import build_segmenter
from opsin.models.registry import ModelSpec
from opsin.ops import mask_losses
from opsin.ops.losses import balancing_weights
from opsin.ops.mask_pictures import UNCERTAINTY_STEPS, overlaid
from opsin.ops.masks import check_masks, class_mean, confusions, iou
from opsin.tasks.base import Assessment, Drawing, Fitted, Parts, Task
from opsin.tasks.cards import TaskCard
from opsin.tasks.common_defaults import Defaults
from opsin.tasks.labels import NUM_TOP
from opsin.tasks.segment.card import CARD
from opsin.tasks.segment.defaults import DEFAULTS
from opsin.tasks.segment.scores import edge_counts, segmentation_details, segmentation_pictures, segmentation_scores
from opsin.tasks.targets import Floats, Targets, required
from opsin.types import VOID, JsonMapping, Prediction, Score

if TYPE_CHECKING:
    from opsin.batches.batch import Batch
    from opsin.config import TrainConfig
    from opsin.data.samples import Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment(Task):
    """One class for each pixel.

    `mask_loss`: name of the loss. `label_smoothing`: share of the target spread over all classes, in the
    cross-entropy. `class_weights`: float32 [K] or None, in the cross-entropy and the focal loss.
    """

    card: ClassVar[TaskCard] = CARD
    default_settings: ClassVar[Defaults] = DEFAULTS
    targets: ClassVar[tuple[str, ...]] = ("masks",)
    pixelwise: ClassVar[bool] = True

    mask_loss: MaskLossName = "cross-entropy"
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def for_training(self, config: TrainConfig, samples: Samples, num_classes: int) -> Segment:
        """This task with the loss of `config`; class weights are counted in pixels.

        Raises:
            DataError: the samples have no masks.
        """
        masks, weights = _masks(Targets.of(samples)), None
        if config.class_weights:
            counts = sum((np.bincount(m.ravel(), minlength=256) for m in masks), np.zeros(256, np.int64))
            weights = balancing_weights(counts[:num_classes], config.class_weights_power)
        return replace(self, mask_loss=config.mask_loss, label_smoothing=config.label_smoothing, class_weights=weights)

    def build(self, spec: ModelSpec, num_classes: int) -> nn.Module:
        """A backbone with a decoder: outputs {"logits": [B, K, H, W]}."""
        return build_segmenter(spec, num_classes)

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The loss, mean over the images of the batch; with its two parts if it is a sum.

        Raises:
            DataError: the batch has no masks.
        """
        logits, masks = outputs["logits"], _batch_masks(batch)
        if self.mask_loss in mask_losses.OVERLAP_LOSSES:
            return {"loss": mask_losses.OVERLAP_LOSSES[self.mask_loss](logits, masks).mean()}
        if self.mask_loss == "focal":
            return {"loss": mask_losses.focal(logits, masks, class_weights=self.class_weights).mean()}
        entropy = mask_losses.pixel_cross_entropy(
            logits, masks, class_weights=self.class_weights, label_smoothing=self.label_smoothing
        ).mean()
        if self.mask_loss == "cross-entropy":
            return {"loss": entropy}
        overlap = mask_losses.soft_dice(logits, masks).mean()
        return {"loss": entropy + overlap, "cross_entropy": entropy.detach(), "dice_loss": overlap.detach()}

    def guessing_loss(self, num_outputs: int) -> tuple[float, str] | None:
        """None for overlap losses, which are not likelihoods."""
        return super().guessing_loss(num_outputs) if self.mask_loss == "cross-entropy" else None

    def planned_loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The loss of a step; for Lovász with every class in the images, since its memory grows with them."""
        if self.mask_loss != "lovasz":
            return super().planned_loss(outputs, batch)
        losses = []
        for probabilities in outputs["logits"].softmax(1):
            rows = probabilities.flatten(1)
            inside = torch.zeros(rows.shape[1], dtype=torch.bool, device=rows.device)
            losses.append(torch.stack([mask_losses.lovasz_of_class(row, inside) for row in rows]).mean())
        return torch.stack(losses).mean()

    def losses_per_sample(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Plain cross-entropy of each image, mean over its pixels: float32 [B]."""
        return mask_losses.pixel_cross_entropy(outputs["logits"], _batch_masks(batch))

    def batch_scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Pixel accuracy of the batch; the IoU of a split is not a mean over batches."""
        masks = _batch_masks(batch)
        valid = masks != VOID
        right = (outputs["logits"].detach().argmax(1) == masks) & valid
        return {"pixel_accuracy": right.sum() / valid.sum().clamp_min(1)}

    def decode(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"masks": uint8 [B, H, W], "uncertainty": uint8 [B, H, W]}: the entropy in 15ths of its largest value."""
        log_probabilities = outputs["logits"].float().log_softmax(1)
        entropy = -(log_probabilities.exp() * log_probabilities).sum(1) / math.log(max(log_probabilities.shape[1], 2))
        steps = (entropy * UNCERTAINTY_STEPS).round().clamp(0, UNCERTAINTY_STEPS)
        return {"masks": log_probabilities.argmax(1).to(torch.uint8), "uncertainty": steps.to(torch.uint8)}

    def scores(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, intervals: bool = True
    ) -> dict[str, Score]:
        """Scores over the split's pixels as one, with intervals over its images.

        Without intervals the edge scores are left out: each epoch is scored so, and they would take as long as the
        rest.

        Raises:
            DataError: predictions and masks do not match, or are out of range.
        """
        masks, truth = _checked(predictions, targets, classes)
        edges = edge_counts(masks, truth, len(classes)) if intervals else None
        return segmentation_scores(confusions(masks, truth, len(classes)), edges, classes, intervals=intervals)

    def assess(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, fitted: Fitted | None = None
    ) -> Assessment:
        """All scores; confusion of pixels, each class's scores, scores of single images, which images to show.

        Raises:
            DataError: predictions and masks do not match, or are out of range.
        """
        masks, truth = _checked(predictions, targets, classes)
        pixels, edges = confusions(masks, truth, len(classes)), edge_counts(masks, truth, len(classes))
        return Assessment(
            scores=segmentation_scores(pixels, edges, classes),
            details=segmentation_details(pixels, edges, truth, classes, targets.ids),
        )

    def pictures(self, images: Pixels, predictions: Arrays, targets: Targets, details: JsonMapping) -> Arrays:
        """Gallery pictures of the images in `details["shown"]`."""
        return segmentation_pictures(images, predictions, _masks(targets), [row["index"] for row in details["shown"]])

    def parts(self, arrays: Mapping[str, Array], num_classes: int) -> Parts:
        """Confusions of pixels, of which the mean IoU is made."""
        counts = confusions(arrays["masks"], arrays["true_masks"], num_classes)

        def mean_iou(sums: Floats) -> Floats:
            return class_mean(iou(sums.reshape(len(sums), num_classes, num_classes)))

        return counts.reshape(len(counts), -1).astype(np.float64), mean_iou

    def by_class(self, parts: Floats, arrays: Mapping[str, Array], num_classes: int) -> Floats:
        """The IoU of each class's pixels."""
        return np.asarray(iou(parts.sum(axis=0).reshape(1, num_classes, num_classes))[0], np.float64)

    def answer(self, predictions: Arrays, i: int, classes: Sequence[str]) -> Prediction:
        """The largest class of image `i` (the background last), with shares of its pixels."""
        counts = np.bincount(predictions["masks"][i].ravel(), minlength=len(classes))
        return self.of_counts(counts, classes, "")

    def of_counts(
        self, counts: NDArray[np.int64], classes: Sequence[str], file: str, *, notes: tuple[str, ...] = ()
    ) -> Prediction:
        """As `answer`, from the number of pixels of each class, int64 [K]."""
        shares = counts / max(counts.sum(), 1)
        order = [int(k) for k in np.argsort(-shares, kind="stable") if shares[k] > 0]
        order.sort(key=lambda k: classes[k] == "background")
        top = tuple((str(classes[k]), float(shares[k])) for k in order[:NUM_TOP])
        label, score = top[0]
        notes = ("share of the pixels", *notes)
        return Prediction(file=file, label=label, score=score, top=top, notes=notes, shares=tuple(shares.tolist()))

    def draw_target(self, image: NDArray[np.uint8], targets: Targets, i: int, classes: Sequence[str]) -> Drawing:
        """The image under the colours of its mask."""
        return _drawing(image, _masks(targets)[i], classes)

    def draw_prediction(self, image: NDArray[np.uint8], predictions: Arrays, i: int, classes: Sequence[str]) -> Drawing:
        """The image under the colours of the predicted mask."""
        return _drawing(image, predictions["masks"][i], classes)


def _drawing(image: NDArray[np.uint8], mask: NDArray[np.uint8], classes: Sequence[str]) -> Drawing:
    present = [str(classes[k]) for k in np.unique(mask) if k < len(classes)]
    background = 0 if classes[0] == "background" else None
    return Drawing(pixels=overlaid(image, mask, background=background), caption=", ".join(present))


def _masks(targets: Targets) -> NDArray[np.uint8]:
    return required(targets.masks, "the samples have no masks", expected="one mask per image")


def _batch_masks(batch: Batch) -> Tensor:
    do = "segmentation needs a mask for each"
    return required(batch.masks, "the batch has no masks", expected="uint8 [B, H, W]", do=do)


def _checked(
    predictions: Arrays, targets: Targets, classes: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Predicted and true masks, uint8 [N, H, W], after checking that they can be scored."""
    masks, truth = predictions["masks"], _masks(targets)
    check_masks(masks, truth, len(classes))
    return masks, truth


TASK = Segment()
