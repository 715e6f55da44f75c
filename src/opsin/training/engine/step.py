"""One step of training: a batch in, the weights changed, the losses out.

Training, the stop-watch that chooses the precision, the learning-rate finder and the benchmarks all take this step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.preprocess import Preprocess
from opsin.batches.resolution import resize_batch
from opsin.config import RunConfig
from opsin.models.wrappers.recompute import recomputed, recomputing
from opsin.tasks.base import Task
from opsin.training.engine import guards
from opsin.training.engine.optimizers import add_l2, build_optimizer, scale_learning_rate
from opsin.training.engine.own_parts import NO_OWN_PARTS, OwnParts
from opsin.training.engine.precision import Precision
from opsin.training.setup.finetune import Stages

SEED_STRIDE = 1_000_003
"""Keeps the dropout seeds of neighbouring run seeds apart."""


class Stepper:
    """A network with its optimizer.

    Args:
        network: in its starting state; moved to `device` and trained in place.
        task: gives the loss.
        preprocess: the contract of the network's input.
        config: all settings, resolved.
        precision: how the passes are computed.
        device: where.
        num_classes: for augmentations that mix images.
        sample_ids: what a person calls each training sample; an error names them.
        own: the user's own augmentation and optimizer.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        task: Task,
        preprocess: Preprocess,
        config: RunConfig,
        precision: Precision,
        device: torch.device,
        num_classes: int,
        sample_ids: Sequence[str] = (),
        own: OwnParts = NO_OWN_PARTS,
    ) -> None:
        self.network = precision.place(network, device)
        self.task, self.preprocess, self.num_classes = task, preprocess, num_classes
        self.sample_ids, self.own = sample_ids, own
        self.config, self.settings = config, config.train
        self.precision, self.device = precision, device
        self.forward = self._forward_function()
        self.stages = Stages(self.network, config.finetune, epochs=self.settings.epochs)
        self.optimizer = own.built_optimizer(self.network) or build_optimizer(
            self.network, self.settings, self.stages.rates()
        )

    def step(
        self, batch: Batch, *, step: int, epoch: int, factor: float = 1.0, height: int | None = None, parts: int = 1
    ) -> dict[str, float]:
        """Change the weights by one batch.

        Args:
            batch: uint8, as the loader gives it.
            step: number of the step; seeds dropout.
            epoch: number of the epoch; seeds augmentation.
            factor: share of the peak learning rate.
            height: of the images that the network sees, in pixels; None keeps theirs.
            parts: into how many parts the batch is cut, gradients added up.

        Returns:
            Means over the batch: "loss", its parts, and cheap scores.

        Raises:
            DivergedError: the loss or a gradient is not finite; the weights are as before.
        """
        torch.manual_seed(self.settings.seed * SEED_STRIDE + step)
        self.stages.enter(epoch)
        scale_learning_rate(self.optimizer, factor * self.stages.rate(epoch))
        seen = self._seen(batch, epoch=epoch, step=step, height=height)
        losses = self._backward(seen, parts)
        if self.settings.l2:
            add_l2(self.network, self.settings.l2)
        norm = guards.gradient_norm(self.network).item()
        guards.check_finite(losses["loss"], norm, step=step, samples=batch.index, sample_ids=self.sample_ids)
        if self.settings.clip and norm > self.settings.clip:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, self.settings.clip / norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return losses

    def _seen(self, batch: Batch, *, epoch: int, step: int, height: int | None) -> Batch:
        """What the network sees of `batch`: augmented, at the resolution asked for."""
        batch = batch.to(self.device)
        seed = self.settings.seed
        seen = augment(batch, self.config.augment, seed=seed, epoch=epoch, num_classes=self.num_classes)
        seen = self.own.augmented(seen, seed=seed, step=step)
        return seen if height is None else resize_batch(seen, height)

    def _backward(self, batch: Batch, parts: int) -> dict[str, float]:
        """Gradients of the mean loss of `batch`."""
        sums: dict[str, float] = {}
        for part in batch.split(parts):
            share = len(part) / len(batch)
            with self.precision.autocast(self.device):
                outputs = self._outputs(part.images)
            outputs = {key: value.float() for key, value in outputs.items()}
            losses = self.task.loss(outputs, part)
            (losses["loss"] * share).backward()  # type: ignore[no-untyped-call]
            for key, value in (losses | self.task.batch_scores(outputs, part)).items():
                sums[key] = sums.get(key, 0.0) + value.item() * share
        return sums

    def _outputs(self, images: Tensor) -> Mapping[str, Tensor]:
        """What the network says of images as they are batched."""
        images = self.preprocess(images)
        if self.precision.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.forward(images)

    def _forward_function(self) -> Callable[[Tensor], Mapping[str, Tensor]]:
        keeps = not self.settings.checkpoint_activations
        if self.precision.compile:
            compiled: Callable[[Tensor], Mapping[str, Tensor]] = torch.compile(self.network)
            # as a whole: a compiled network would be compiled anew if its sections were changed
            return compiled if keeps else recomputed(compiled, self.network)
        if keeps:
            return self.network

        def forward(images: Tensor) -> Mapping[str, Tensor]:
            with recomputing(self.network):
                outputs: Mapping[str, Tensor] = self.network(images)
                return outputs

        return forward
