"""The task interface, which every task implements.

    samples ──> network ──> outputs ──┬─ loss ──────────> training
                                      └─ decode ──> predictions ──> scores, assessment, pictures

A task defines the target, the heads of the network, the loss, the decoding of outputs to predictions, the scores, and
the drawing of targets. All other packages work through this interface and name no task.

| | classify | localize | segment |
|---|---|---|---|
| target in `Batch`, `Targets` | labels | labels, boxes | masks |
| outputs of the network | logits [B, K] | logits [B, K], boxes [B, 4] | logits [B, K, H, W] |
| predictions (`decode`) | probabilities [B, K] | probabilities [B, K], boxes [B, 4] | masks [B, H, W] |
| main score | accuracy | class right and IoU >= 0.6 | mean IoU |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array, Arrays
from opsin.data.targets import KINDS
from opsin.tasks.cards import ScoreKind, TaskCard
from opsin.tasks.common_defaults import Defaults, Start
from opsin.tasks.targets import Floats, Targets
from opsin.types import JsonDict, JsonMapping, Layer, Prediction, Score, SizePolicy, TaskName

if TYPE_CHECKING:
    from torch import Tensor, nn

    from opsin.batches.batch import Batch
    from opsin.config import TrainConfig
    from opsin.data.samples import Dataset, Pixels, Samples
    from opsin.models.registry import ModelSpec
    from opsin.models.wrappers.views import Averaging

Parts = tuple[Floats, Callable[[Floats], Floats]]
Fitted = Mapping[str, float]
"""Values fitted to predictions on val, by name."""


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The assessment of a split's predictions.

    `scores`: with 95 % intervals, NaN where undefined. `details`: further content of the report, as plain JSON,
    None for undefined.
    """

    scores: Mapping[str, Score]
    details: JsonMapping


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture: `pixels` uint8 [3, h, w] with drawings, and a caption."""

    pixels: NDArray[np.uint8]
    caption: str


class Task:
    """One task. Instances are small and immutable.

    `get_task` returns one that supports everything except a weighted loss. Methods with a default implementation are
    optional.

    Attributes:
        card: its facts that need no PyTorch.
        default_settings: the settings that its runs start from.
        targets: kinds of target that its samples have, names in `data.targets.KINDS`.
        one_class: each image has one of K classes, with `probabilities`, and there is no other target.
        pixelwise: it predicts each pixel, and its network has a decoder.
        gives_boxes: its predictions have boxes.
        num_explained: number of outputs that `explain` explains.
        keeps_fitted: the result of `fit` is stored in the artefact, and restored by `with_fitted`.
        main_output: the output with one number for each class or measurement.
        score_is_of_label: the score of a prediction is the confidence in its label.
        column_prefix: prefix of the class columns in a table of predictions.
        is_share: the main score is the share of samples that are right.
        reads_good_iou: its main score depends on the setting `good_iou`.
    """

    card: ClassVar[TaskCard]
    default_settings: ClassVar[Defaults]
    targets: ClassVar[tuple[str, ...]]
    one_class: ClassVar[bool] = False
    pixelwise: ClassVar[bool] = False
    gives_boxes: ClassVar[bool] = False
    num_explained: ClassVar[int] = 1
    keeps_fitted: ClassVar[bool] = False
    main_output: ClassVar[str] = "logits"
    score_is_of_label: ClassVar[bool] = True
    column_prefix: ClassVar[str] = "p_"
    is_share: ClassVar[bool] = False
    reads_good_iou: ClassVar[bool] = False

    @property
    def name(self) -> TaskName:
        """Its name in configs and files."""
        return self.card.name

    @property
    def main_score(self) -> str:
        """The score by which epochs are compared; higher is better."""
        return self.card.main_score

    @property
    def takes_features(self) -> bool:
        """Whether its heads read one vector for each image, and its targets stay as they are when images move."""
        return not self.pixelwise and not any(KINDS[kind].follows for kind in self.targets)

    @property
    def score_kinds(self) -> Mapping[str, ScoreKind]:
        """Every score that `scores` can give, in the order of tables."""
        return self.card.score_kinds

    def defaults(self, dataset: Dataset, model: str | None) -> Layer:
        """Settings of a run from scratch on `dataset`; `model` is the network chosen by the user, or None."""
        return self.default_settings.from_scratch(dataset, model)

    def finetune_defaults(self, start: Start) -> Layer:
        """Settings of a run that starts from pretrained weights."""
        return self.default_settings.from_weights(start)

    def for_training(self, config: TrainConfig, samples: Samples, num_classes: int) -> Task:
        """The task with the loss of `config`; class counts are those of the training samples."""
        raise NotImplementedError

    def for_scoring(self, config: TrainConfig) -> Task:
        """The task with the scores of `config`; its losses are unchanged."""
        return self

    def with_fitted(self, fitted: Fitted) -> Task:
        """The task with the values that `fit` found on val, as stored in an artefact."""
        return self

    def build(self, spec: ModelSpec, num_classes: int) -> nn.Module:
        """A new network with this task's heads; called with images it returns the outputs, dict[str, Tensor]."""
        raise NotImplementedError

    def num_outputs(self, outputs: Mapping[str, Tensor]) -> int:
        """The number of classes or numbers in the outputs."""
        return int(outputs[self.main_output].shape[1])

    @property
    def good_iou(self) -> float | None:
        """IoU from which on a box counts as good in the main score; None where it asks for no boxes."""
        return None

    @property
    def averaging(self) -> Averaging:
        """How predictions are averaged over several views of an image."""
        from opsin.models.wrappers.views import CLASSES  # it needs torch

        return CLASSES

    def first_loss(self, num_outputs: int) -> tuple[float, str]:
        """The loss per sample of a network that knows nothing, and what that is in words."""
        return self.card.first_loss(num_outputs)

    def loss_allowance(self, config: TrainConfig) -> float:
        """Additional allowance of the initial loss, above twice that, plus 2."""
        return 0.0

    def guessing_loss(self, num_outputs: int) -> tuple[float, str] | None:
        """The training loss of guessing, with its description; None if the loss is not a likelihood."""
        return (math.log(num_outputs), "ln of the classes") if num_outputs > 1 else None

    def blank_targets(self, count: int, height: int, width: int, num_outputs: int) -> dict[str, Tensor]:
        """Targets of `count` images by kind, for a step of which only memory and time matter."""
        return {kind: KINDS[kind].blank(count, height, width, num_outputs) for kind in self.targets}

    def planned_loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The loss of such a step, a scalar, at its largest cost."""
        return self.loss(outputs, batch)["loss"]

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Parts of the training loss, each a scalar mean over the batch; "loss" is their weighted sum."""
        raise NotImplementedError

    def losses_per_sample(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Plain loss of each sample, without smoothing, weights or mixing: float32 [B]."""
        raise NotImplementedError

    def batch_scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Cheap scores of a training batch for the log, each a scalar mean over the batch."""
        return {}

    def decode(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions of B rows, as in predictions.npz."""
        raise NotImplementedError

    def fit(self, predictions: Arrays, targets: Targets) -> dict[str, float]:
        """Values fitted to predictions on val and applied to other splits, e.g. the temperature."""
        return {}

    def scores(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, intervals: bool = True
    ) -> dict[str, Score]:
        """Scores of a split, with 95 % intervals if asked; NaN where a score is undefined."""
        raise NotImplementedError

    def assess(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, fitted: Fitted | None = None
    ) -> Assessment:
        """Scores of a split with intervals, and their details.

        Args:
            fitted: the result of `fit` on val; None fits to these predictions, which is valid only on val.
        """
        raise NotImplementedError

    def pictures(self, images: Pixels, predictions: Arrays, targets: Targets, details: JsonMapping) -> Arrays:
        """Arrays for gallery.npz, by name without the split's; `images` uint8 [N, C, H, W].

        For a report that needs more pictures than the samples' own: truth and prediction, pixel by pixel.
        """
        return {}

    def parts(self, arrays: Mapping[str, Array], num_classes: int) -> Parts:
        """What each of N samples adds to sums of which the main score is made: how runs are compared.

        The score is that of `for_scoring`, and so needs a run's settings where it depends on them.

        Args:
            arrays: predictions and targets, as in predictions.npz.
            num_classes: K.

        Returns:
            float64 [N, M], and the function from sums [r, M] to main scores [r].

        Raises:
            KeyError: a required array is missing.
        """
        raise NotImplementedError

    def by_class(self, parts: Floats, arrays: Mapping[str, Array], num_classes: int) -> Floats:
        """The main score within each class, or of each number: float64 [K]; NaN where there is nothing of it.

        Here it is the share of a class's samples that are right.

        Args:
            parts: float64 [N, M], as `parts` gives them.
            arrays: of the same samples, as for `parts`.
            num_classes: K.
        """
        labels = arrays["labels"]
        total = np.bincount(labels, minlength=num_classes).astype(np.float64)
        right = np.bincount(labels, weights=parts[:, 0], minlength=num_classes)
        shares: Floats = np.divide(right, total, out=np.full(num_classes, np.nan), where=total > 0)
        return shares

    def wrong(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], details: JsonMapping
    ) -> list[JsonDict]:
        """Misclassified samples, most confident first, as plain JSON; or those that `details` show."""
        return [dict(entry) for entry in details.get("shown") or details.get("mistakes") or ()]

    def answer(self, predictions: Arrays, i: int, classes: Sequence[str]) -> Prediction:
        """The prediction for image `i`, without its file; boxes are in pixels of the network's input."""
        raise NotImplementedError

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
        """The prediction for image `i` of a file.

        Args:
            original_size: (height, width) before the image was fitted to the network's input by `policy`; boxes are
                in pixels of the original.
        """
        said = self.answer(predictions, i, classes)
        return replace(said, file=file, notes=(*said.notes, *notes))

    def of_counts(
        self, counts: NDArray[np.int64], classes: Sequence[str], file: str, *, notes: tuple[str, ...] = ()
    ) -> Prediction:
        """What a task that asks for each pixel says of an image by the pixels of each class, int64 [K]: as `describe`.

        So a photo that is seen in tiles is described, whose mask is nowhere whole.
        """
        raise NotImplementedError

    def draw_target(self, image: NDArray[np.uint8], targets: Targets, i: int, classes: Sequence[str]) -> Drawing:
        """Image `i`, uint8 [C, H, W], with its target."""
        raise NotImplementedError

    def draw_prediction(self, image: NDArray[np.uint8], predictions: Arrays, i: int, classes: Sequence[str]) -> Drawing:
        """Image `i`, uint8 [C, H, W], with its prediction."""
        raise NotImplementedError


def rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`image` uint8 [1 or 3, H, W] as uint8 [3, H, W]."""
    return np.repeat(image, 3, axis=0) if image.shape[0] == 1 else image
