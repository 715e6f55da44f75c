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
from opsin.group import ALONE, Group
from opsin.models.wrappers.forward import Forward, Precision
from opsin.models.wrappers.recompute import recomputed, recomputing
from opsin.models.wrappers.shared_statistics import share_statistics
from opsin.tasks.base import Task
from opsin.training.engine import guards
from opsin.training.engine.losses import LossReader, StepLosses, exact
from opsin.training.engine.optimizers import add_l2, build_optimizer, clip_gradients, scale_learning_rate
from opsin.training.engine.own_parts import NO_OWN_PARTS, OwnParts
from opsin.training.engine.randomness import seed_layers
from opsin.training.engine.replicas import Replicas
from opsin.training.engine.shards import Shards, is_sharded
from opsin.training.engine.stages import Stages


class Stepper:
    """A network with its optimizer.

    `trains_all`: forward and backward pass go through the whole network.

    Args:
        network: in its starting state; moved to `device` and trained in place.
        task: gives the loss.
        preprocess: the network's input contract.
        config: all settings, resolved.
        precision: how the passes are computed.
        device: device of the network.
        num_classes: number of classes, for augmentations that mix images.
        sample_ids: display name of each training sample, for errors.
        own: the user's own augmentation and optimizer.
        group: processes that share each step; their gradients are averaged.
    """

    trains_all = True

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
        group: Group = ALONE,
    ) -> None:
        # heads that are trained by themselves stay whole
        divides = is_sharded(config, group) and self.trains_all
        self.network = network if divides else precision.place(network, device)
        if config.train.sync_batch_norm and not group.alone:
            share_statistics(self.network, device)
        self.task, self.num_classes, self.own, self.group = task, num_classes, own, group
        self.reader = LossReader(device, sample_ids, group)
        self.config, self.settings = config, config.train
        self.precision, self.device = precision, device
        self.forward = Forward(preprocess=preprocess, precision=precision, device=device)
        self.replicas = (
            Shards(network, group, device)
            if divides
            else Replicas(self.trained(), group, device, compiled=precision.compile)
        )
        self._parameters = list(self.network.parameters())
        self._compute = self._compute_function()
        self.stages = Stages(self.network, config.finetune, epochs=self.settings.epochs)
        self.optimizer = own.built_optimizer(self.network) or build_optimizer(
            self.network, self.settings, self.stages.rates()
        )
        self.peak_lr = self.settings.lr
        if own.optimizer is not None:
            self.peak_lr = max(float(group["lr"]) for group in self.optimizer.param_groups)

    def step(
        self, batch: Batch, *, step: int, epoch: int, factor: float = 1.0, height: int | None = None, parts: int = 1
    ) -> Mapping[str, Tensor]:
        """Change the weights by one batch.

        Args:
            batch: uint8, as the loader gives it.
            step: number of the step; seeds dropout.
            epoch: number of the epoch; seeds augmentation.
            factor: share of the peak learning rate.
            height: height of the network's input in pixels; None keeps that of the images.
            parts: number of parts the batch is split into; their gradients are summed.

        Returns:
            Means over the batch, scalars on the device: "loss", its parts, and cheap scores.

        Raises:
            DivergedError: the loss or a gradient is not finite. Where each step is read, the weights are as before.
        """
        seen = self.see(batch, epoch=epoch, height=height)
        return self.train(seen, step=step, epoch=epoch, factor=factor, parts=parts)

    def see(self, batch: Batch, *, epoch: int, height: int | None) -> Batch:
        """The network's input for `batch`: on the device, augmented, at the requested resolution.

        It depends on (seed, epoch, sample) and on no weight, so it may be done ahead of the step.
        """
        batch = batch.to(self.device)
        seed, size = self.settings.seed, self.forward.preprocess.size
        seen = augment(
            batch,
            self.config.augment,
            seed=seed,
            epoch=epoch,
            num_classes=self.num_classes,
            size=(size.height, size.width),
        )
        seen = self.own.augmented(seen, seed=seed, epoch=epoch)
        return seen if height is None else resize_batch(seen, height)

    def train(self, seen: Batch, *, step: int, epoch: int, factor: float, parts: int) -> Mapping[str, Tensor]:
        """Change the weights by a batch from `see`; otherwise as `step`."""
        seed_layers(self.settings.seed, step, self.device, self.group.rank)
        self.stages.enter(epoch)
        scale_learning_rate(self.optimizer, factor * self.stages.rate(epoch))
        means = self._backward(seen, parts)
        if self.settings.l2:
            add_l2(self.network, self.settings.l2)
        norm = guards.gradient_norm(self._parameters, self.group)
        self.reader.add(StepLosses(step=step, means=means, norm=norm, samples=seen.index, share=seen.share))
        if self.settings.clip:
            clip_gradients(self.network, norm, self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return means

    def _backward(self, batch: Batch, parts: int) -> dict[str, Tensor]:
        """Gradients of the mean loss of `batch`, or of the batch that it is a share of; returns means over `batch`."""
        sums: dict[str, Tensor] = {}
        pieces = batch.split(parts)
        self.replicas.prepare(lambda: self._losses(pieces[0])[0]["loss"])
        weight = self.replicas.weight(batch)
        for number, part in enumerate(pieces, 1):
            share = len(part) / len(batch)
            with self.replicas.averaging(now=number == len(pieces)):
                losses, outputs = self._losses(part)
                (losses["loss"] * (share * weight)).backward()  # type: ignore[no-untyped-call]
            for key, value in (losses | self.task.batch_scores(outputs, part)).items():
                mean = value.detach() if share == 1 else exact(value) * share
                sums[key] = sums[key] + mean if key in sums else mean
        return sums

    def _losses(self, part: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Mean losses of a batch, and the outputs that they are of."""
        outputs = {key: value.float() for key, value in self._outputs(part.images).items()}
        return self.task.loss(outputs, part), outputs

    def _outputs(self, images: Tensor) -> Mapping[str, Tensor]:
        """Outputs of the network for batched images."""
        return self.forward(self._compute, images)

    def trained(self) -> nn.Module:
        """What the forward pass goes through: the whole network."""
        return self.network

    def _compute_function(self) -> Callable[[Tensor], Mapping[str, Tensor]]:
        if not self.settings.checkpoint_activations:
            return self.replicas
        if self.precision.compile:  # as a whole: changed sections would cause a recompilation
            whole: Callable[[Tensor], Mapping[str, Tensor]] = recomputed(self.replicas, self.network)
            return whole

        def compute(images: Tensor) -> Mapping[str, Tensor]:
            with recomputing(self.network):
                return self.replicas(images)

        return compute
