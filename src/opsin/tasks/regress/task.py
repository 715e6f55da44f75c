"""Regression: one or more numbers per image.

The target is a row of numbers. The head is a linear layer on the backbone's features, and a layer without learned
weights that scales its output to the mean and deviation of the training samples, which the artefact stores. The loss
is the squared error, or Huber's, of standardized numbers.

Shapes: B samples of a batch, N samples of a split, M numbers.
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
from opsin.config.train import NumberLossName
from opsin.errors import DataError
from opsin.models.building import build_with_heads
from opsin.models.parts.network import Network
from opsin.models.registry import ModelSpec
from opsin.models.wrappers.views import Averaging
from opsin.tasks.base import Assessment, Drawing, Fitted, Parts, Task, rgb
from opsin.tasks.cards import TaskCard
from opsin.tasks.common_defaults import Defaults
from opsin.tasks.regress.card import CARD
from opsin.tasks.regress.defaults import DEFAULTS
from opsin.tasks.regress.scores import in_words, number_details, number_scores, r2_of_sums, r2_parts
from opsin.tasks.targets import Floats, Targets, check_columns, required
from opsin.types import Prediction, Score

if TYPE_CHECKING:
    from opsin.batches.batch import Batch
    from opsin.config import TrainConfig
    from opsin.data.samples import Samples

NUMBERS = Averaging(output="numbers", apart=lambda numbers: numbers, back=lambda means: means)
"""Numbers are averaged over views."""


class Scaled(nn.Module):
    """Standardized outputs float [B, M] in the units of the training samples, by `mean` and `deviation` [M]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("deviation", deviation.clone())

    def forward(self, answers: Tensor) -> Tensor:
        """Numbers float32 [B, M]."""
        return answers.float() * self.deviation + self.mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Regress(Task):
    """Numbers of each image.

    `number_loss`: `squared` or `huber`, of standardized numbers. `mean`, `deviation`: float32 [M] of the training
    samples; 0 and 1 where None.
    """

    card: ClassVar[TaskCard] = CARD
    default_settings: ClassVar[Defaults] = DEFAULTS
    targets: ClassVar[tuple[str, ...]] = ("numbers",)
    main_output: ClassVar[str] = "numbers"
    score_is_of_label: ClassVar[bool] = False
    column_prefix: ClassVar[str] = ""

    number_loss: NumberLossName = "squared"
    mean: Tensor | None = None
    deviation: Tensor | None = None

    def for_training(self, config: TrainConfig, samples: Samples, num_classes: int) -> Regress:
        """This task with the loss of `config`, and the mean and deviation of the training samples.

        Raises:
            DataError: the samples have no numbers.
        """
        numbers = _numbers(Targets.of(samples)).astype(np.float64)
        deviation = numbers.std(axis=0)
        return replace(
            self,
            number_loss=config.number_loss,
            mean=torch.from_numpy(numbers.mean(axis=0)).float(),
            deviation=torch.from_numpy(np.where(deviation > 0, deviation, 1)).float(),
        )

    def build(self, spec: ModelSpec, num_classes: int) -> nn.Module:
        """A backbone with a linear head and its scale: outputs {"numbers": [B, M]} in the units of the samples."""
        network = build_with_heads(spec, {"numbers": num_classes})
        if not isinstance(network, Network):
            return network
        mean, deviation = self._scale(num_classes)
        network.heads["numbers"] = nn.Sequential(network.heads["numbers"], Scaled(mean, deviation))
        return network

    def _scale(self, count: int) -> tuple[Tensor, Tensor]:
        mean = torch.zeros(count) if self.mean is None else self.mean
        return mean, torch.ones(count) if self.deviation is None else self.deviation

    def guessing_loss(self, num_outputs: int) -> tuple[float, str] | None:
        """That of a network that always says the mean; of Huber's loss it is not known."""
        return (1.0, "always the mean") if self.number_loss == "squared" else None

    @property
    def averaging(self) -> Averaging:
        """The numbers themselves."""
        return NUMBERS

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Mean loss over numbers and batch, scalar float32.

        Raises:
            DataError: the batch has no numbers.
        """
        answer, true = self._standardized(outputs, batch)
        if self.number_loss == "huber":
            return {"loss": functional.huber_loss(answer, true)}
        return {"loss": functional.mse_loss(answer, true)}

    def losses_per_sample(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Mean squared error of each sample's standardized numbers: float32 [B]."""
        answer, true = self._standardized(outputs, batch)
        return (answer - true).square().mean(dim=1)

    def _standardized(self, outputs: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Answers and truth in deviations from the mean, float32 [B, M] both."""
        answer = outputs["numbers"].float()
        mean, deviation = (part.to(answer) for part in self._scale(answer.shape[1]))
        return (answer - mean) / deviation, (_batch_numbers(batch).to(answer) - mean) / deviation

    def batch_scores(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Mean absolute error of the batch, in the units of the numbers."""
        return {"mae": (outputs["numbers"].detach().float() - _batch_numbers(batch)).abs().mean()}

    def decode(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """{"numbers": float32 [B, M]}."""
        return {"numbers": outputs["numbers"].float()}

    def scores(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, intervals: bool = True
    ) -> dict[str, Score]:
        """R², mean absolute error, root mean squared error, loss.

        Raises:
            DataError: predictions and numbers do not match, or are not finite.
        """
        predicted, truth = _checked(predictions, targets, classes)
        deviations = None if self.deviation is None else self.deviation.double().numpy()
        return number_scores(predicted, truth, deviations, intervals=intervals)

    def assess(
        self, predictions: Arrays, targets: Targets, classes: Sequence[str], *, fitted: Fitted | None = None
    ) -> Assessment:
        """All scores; those of each number, truth against prediction, and the samples with the largest errors.

        Raises:
            DataError: predictions and numbers do not match, or are not finite.
        """
        predicted, truth = _checked(predictions, targets, classes)
        return Assessment(
            scores=self.scores(predictions, targets, classes),
            details=number_details(predicted, truth, classes, targets.ids),
        )

    def parts(self, arrays: Mapping[str, Array], num_classes: int) -> Parts:
        """Squares of errors and of the truth, of which R² is made."""
        return r2_parts(arrays["numbers"], arrays["true_numbers"])

    def by_class(self, parts: Floats, arrays: Mapping[str, Array], num_classes: int) -> Floats:
        """R² of each number."""
        found: Floats = r2_of_sums(parts.sum(axis=0).reshape(1, -1, num_classes))[0]
        return found

    def answer(self, predictions: Arrays, i: int, classes: Sequence[str]) -> Prediction:
        """The numbers of image `i`: `top` and `shares` contain them by name and in order, `score` is the first."""
        numbers = predictions["numbers"][i]
        top = tuple((str(name), float(value)) for name, value in zip(classes, numbers, strict=True))
        label = in_words(numbers, classes)
        return Prediction(file="", label=label, score=top[0][1], top=top, shares=tuple(numbers.tolist()))

    def draw_target(self, image: NDArray[np.uint8], targets: Targets, i: int, classes: Sequence[str]) -> Drawing:
        """The image, captioned with its numbers."""
        return Drawing(pixels=rgb(image), caption=in_words(_numbers(targets)[i], classes))

    def draw_prediction(self, image: NDArray[np.uint8], predictions: Arrays, i: int, classes: Sequence[str]) -> Drawing:
        """The image, captioned with the predicted numbers."""
        return Drawing(pixels=rgb(image), caption=in_words(predictions["numbers"][i], classes))


def _numbers(targets: Targets) -> NDArray[np.float32]:
    return required(targets.numbers, "the samples have no numbers", expected="a row of numbers per sample")


def _batch_numbers(batch: Batch) -> Tensor:
    do = "give the numbers of each image"
    return required(batch.numbers, "the batch has no numbers", expected="float32 [B, M]", do=do)


def _checked(
    predictions: Arrays, targets: Targets, names: Sequence[str]
) -> tuple[NDArray[np.floating], NDArray[np.float32]]:
    """Predicted and true numbers, [N, M] both, after checking that they can be scored."""
    predicted, truth = predictions["numbers"], _numbers(targets)
    check_columns(predicted, truth, len(names), said="predictions", kind="numbers")
    if not np.isfinite(predicted).all():
        raise DataError("predicted numbers are NaN or infinite", do="train with a lower learning rate")
    return predicted, truth


TASK = Regress()
