"""The training loop: batches in, weights out, with everything that the next step depends on in a checkpoint.

What a step does is a function of (config, step, weights, optimizer state) alone: the order of samples, augmentation and
dropout are drawn from (seed, epoch, sample) or (seed, step). So a run that is killed and resumed ends with the same
bits as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from opsin.artifact import Artifact
from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.loader import batches, steps_per_epoch
from opsin.batches.resolution import resize_batch
from opsin.config import RunConfig
from opsin.data.samples import Samples
from opsin.errors import InterruptedRunError
from opsin.predict import Predictor
from opsin.progress import Bar, Reporter
from opsin.runs import Run
from opsin.tasks.base import Targets, Task
from opsin.train import checkpoints, guards, machine
from opsin.train.checkpoints import Checkpoint
from opsin.train.ema import MovingAverage
from opsin.train.optimizers import add_l2, build_optimizer, scale_learning_rate
from opsin.train.precision import Precision
from opsin.train.schedules import Plateau, schedule_factor

SEED_STRIDE = 1_000_003
"""Keeps the dropout seeds of neighbouring run seeds apart."""


@dataclass
class State:
    """The plain values that a checkpoint holds beside its tensors."""

    step: int = 0
    epoch: int = 0
    lr: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best_score: float | None = None
    best_epoch: int = 0
    stale_epochs: int = 0
    accumulate: int = 1
    stopped: str = ""
    sums: dict[str, float] = field(default_factory=dict)
    plateau: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)


class Trainer:
    """One run in the making.

    Args:
        network: in its starting state; moved to `device` and trained in place.
        task: loss, decoding and scores.
        artifact: the contract under which the network is evaluated; its network is replaced epoch by epoch.
        splits: packed samples; "train" is trained on, "val" is scored after each epoch where there is one.
        config: all settings, resolved.
        precision: how the passes are computed.
        run: folder that the log and the checkpoints go to.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        task: Task,
        artifact: Artifact,
        splits: Mapping[str, Samples],
        config: RunConfig,
        precision: Precision,
        device: torch.device,
        run: Run,
        report: Reporter,
    ) -> None:
        self.config, self.settings = config, config.train
        self.task, self.artifact, self.preprocess = task, artifact, artifact.preprocess
        self.train_samples, self.val_samples = splits["train"], splits.get("val")
        self.precision, self.device, self.run, self.report = precision, device, run, report
        self.network = precision.place(network, device)
        self.forward: Callable[[Tensor], dict[str, Tensor]] = self._forward_function()
        self.optimizer = build_optimizer(self.network, self.settings)
        self.average = MovingAverage(self.network, self.settings.ema) if self.settings.ema else None
        self.best: dict[str, Tensor] = {}
        self.plateau = Plateau()
        self.state = State(accumulate=self.settings.accumulate)
        self.steps_per_epoch = steps_per_epoch(len(self.train_samples.images), self.settings.batch_size, training=True)
        self.total_steps = self.steps_per_epoch * self.settings.epochs
        self.usage = machine.Usage()
        self._checkpointed = time.monotonic()

    @property
    def progress(self) -> float:
        """Share of the run that is done, in steps or minutes, whichever is further on."""
        share = self.state.step / self.total_steps
        if self.settings.minutes is None:
            return share
        return max(share, self.seconds / (60 * self.settings.minutes))

    @property
    def seconds(self) -> float:
        """Training time so far, over all resumptions."""
        return self.state.seconds + self.usage.seconds()

    def fit(self) -> State:
        """Train to the end, from wherever the state stands.

        Raises:
            InterruptedRunError: after Ctrl-C or SIGTERM; a checkpoint was written.
            DivergedError: the loss or a gradient is not finite.
        """
        stop = guards.StopRequest(self.report.message)
        self.usage.reset()
        self.state.stopped = ""
        with stop.listening(), self.report.bar("training", self.total_steps) as bar:
            bar.at(self.state.step)
            while not self._finished():
                self._train_epoch(stop, bar)
                self._end_epoch(bar)
                self._checkpoint_if_due()
        self.save_checkpoint()
        self.state.seconds, self.state.cpu_seconds = self.seconds, self._cpu_seconds()
        self.usage.reset()
        return self.state

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint."""
        self.network.load_state_dict(checkpoint.part("network"))
        self.best = checkpoint.part("best")
        if self.average:
            self.average.load(checkpoint.part("average"))
        values = {key: value for key, value in checkpoint.state.items() if key in State.__dataclass_fields__}
        self.state = State(**values)
        checkpoints.load_optimizer(self.optimizer, checkpoint.part("optimizer"), self.state.optimizer)
        self.plateau = Plateau(**self.state.plateau)
        self.run.rewind(self.state.step)

    def save_checkpoint(self) -> None:
        """Write everything that the next step depends on."""
        tensors, plain = checkpoints.optimizer_tensors(self.optimizer)
        self.state.optimizer, self.state.plateau = plain, vars(self.plateau)
        average = self.average.tensors if self.average else {}
        parts = {"network": self.network.state_dict(), "best": self.best, "average": average, "optimizer": tensors}
        named = {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
        state = vars(self.state) | {"seconds": self.seconds, "cpu_seconds": self._cpu_seconds()}
        checkpoints.save(self.run.checkpoints_folder, Checkpoint(named, state))
        self._checkpointed = time.monotonic()

    def final_weights(self) -> dict[str, Tensor]:
        """What the artefact holds: the best epoch's weights, or the last ones."""
        if self.settings.restore_best and self.best:
            return self.best
        return self.average.tensors if self.average else self.network.state_dict()

    def _finished(self) -> bool:
        if self.state.stopped:
            return True
        if self.settings.minutes is not None and self.progress >= 1 and self.state.epoch < self.settings.epochs:
            self.state.stopped = "minutes"
            return True
        return self.state.epoch >= self.settings.epochs

    def _train_epoch(self, stop: guards.StopRequest, bar: Bar) -> None:
        side = self._side()
        epoch = self.state.epoch
        start = self.state.step - epoch * self.steps_per_epoch
        self.network.train()
        stream = batches(
            self.train_samples,
            self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
            training=True,
            start_step=start,
        )
        for batch in stream:
            self._step_within_memory(batch, epoch=epoch, side=side)
            bar.advance(note=f"epoch {epoch + 1}")
            if stop.made:
                self._interrupt()
            if self.settings.minutes is not None and self.progress >= 1:
                return
            if time.monotonic() - self._checkpointed > 60 * self.settings.checkpoint_minutes:
                self.save_checkpoint()

    def _step_within_memory(self, batch: Batch, *, epoch: int, side: int | None) -> None:
        """One step; when memory does not suffice, the batch is cut into twice as many parts and tried again."""
        while True:
            try:
                self._step(batch, epoch=epoch, side=side)
            except (RuntimeError, MemoryError) as error:
                parts = self.state.accumulate * 2
                if not guards.is_out_of_memory(error) or parts > len(batch.index):
                    raise
                self.optimizer.zero_grad(set_to_none=True)
                self.state.accumulate = parts
                message = f"out of memory: from here on each batch is cut into {parts} parts, gradients added up"
                self.report.message(message)
                self.run.event("memory_guard", step=self.state.step, message=message)
            else:
                return

    def _step(self, batch: Batch, *, epoch: int, side: int | None) -> None:
        settings, step = self.settings, self.state.step
        torch.manual_seed(settings.seed * SEED_STRIDE + step)
        factor = schedule_factor(settings.schedule, self.progress, warmup=settings.warmup) * self.plateau.factor
        scale_learning_rate(self.optimizer, factor)
        self.state.lr = settings.lr * factor
        seen = self._seen(batch, epoch=epoch, side=side)
        losses = self._backward(seen)
        if settings.l2:
            add_l2(self.network, settings.l2)
        norm = float(guards.gradient_norm(self.network))
        guards.check_finite(losses["loss"], norm, step=step, samples=batch.index.tolist())
        if settings.clip and norm > settings.clip:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, settings.clip / norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.average:
            self.average.update(self.state.step)
        self._count(losses, len(batch.index))

    def _seen(self, batch: Batch, *, epoch: int, side: int | None) -> Batch:
        """What the network sees of `batch`: augmented, at the resolution of this epoch."""
        batch = batch.to(self.device)
        seen = augment(
            batch, self.config.augment, seed=self.settings.seed, epoch=epoch, num_classes=len(self.artifact.classes)
        )
        return seen if side is None else replace(seen, images=resize_batch(seen.images, side))

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Gradients of the mean loss of `batch`, in as many parts as memory asks for."""
        total = len(batch.index)
        sums: dict[str, float] = {}
        for part in batch.split(self.state.accumulate):
            share = len(part.index) / total
            images = self.preprocess(part.images)
            if self.precision.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with self.precision.autocast(self.device):
                outputs = self.forward(images)
            losses = self.task.loss({key: value.float() for key, value in outputs.items()}, part)
            (losses["loss"] * share).backward()  # type: ignore[no-untyped-call]
            losses |= self.task.batch_scores(outputs, part)
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach()) * share
        return sums

    def _count(self, losses: Mapping[str, float], count: int) -> None:
        sums = self.state.sums
        sums["count"] = sums.get("count", 0.0) + count
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + value * count

    def _end_epoch(self, bar: Bar) -> None:
        """Score the epoch on val, log it, keep the best weights, and decide whether to go on."""
        sums = self.state.sums
        count = sums.pop("count", 1.0)
        train = {key: value / count for key, value in sums.items()}
        self.state.sums = {}
        self.state.epoch += 1
        val = self._score_val()
        best = self._keep_if_best(val)
        self.plateau.see(val.get("loss", train["loss"])) if self.settings.schedule == "plateau" else None
        seconds = self.seconds
        self.run.event(
            "epoch",
            epoch=self.state.epoch,
            step=self.state.step,
            seconds=round(seconds, 3),
            lr=self.state.lr,
            train=train,
            val=val,
            images_per_second=round(self.state.step * self.settings.batch_size / max(seconds, 1e-9), 1),
            cpu_percent=self.usage.cpu_percent(),
            peak_memory_bytes=machine.peak_memory_bytes(),
            best=best,
            **machine.gpu_usage(self.device),
        )
        bar.at(self.state.step, self._note(train, val))
        if self.settings.patience and self.state.stale_epochs >= self.settings.patience:
            self.state.stopped = "early"
            message = f"no better val score for {self.settings.patience} epochs: stopped"
            self.run.event("early_stop", step=self.state.step, message=message)
            self.report.message(message)

    def _score_val(self) -> dict[str, float]:
        if self.val_samples is None:
            return {}
        present = {key: value.clone() for key, value in self.network.state_dict().items()} if self.average else {}
        if self.average:
            self.network.load_state_dict(self.average.tensors)
        predictor = Predictor(self.artifact_of(self.network), device=self.device)
        predictions = predictor.samples(self.val_samples)
        if present:
            self.network.load_state_dict(present)
        scores = self.task.scores(predictions, Targets.of(self.val_samples), self.artifact.classes, intervals=False)
        return {key: score.value for key, score in scores.items()}

    def artifact_of(self, network: nn.Module) -> Artifact:
        """`network` under this run's contract."""
        return replace(self.artifact, network=network)

    def _keep_if_best(self, val: Mapping[str, float]) -> bool:
        score = val.get(self.task.main_score)
        if score is None:
            return False
        if self.state.best_score is not None and not score > self.state.best_score:
            self.state.stale_epochs += 1
            return False
        self.state.best_score, self.state.best_epoch, self.state.stale_epochs = score, self.state.epoch, 0
        source = self.average.tensors if self.average else self.network.state_dict()
        self.best = {key: value.detach().clone() for key, value in source.items()}
        return True

    def _checkpoint_if_due(self) -> None:
        # an epoch of a second does not repay a checkpoint; the end of the run always writes one
        if time.monotonic() - self._checkpointed > min(20.0, 60 * self.settings.checkpoint_minutes):
            self.save_checkpoint()

    def _interrupt(self) -> None:
        self.save_checkpoint()
        self.run.event("interrupt", step=self.state.step, message="stopped by the user")
        raise InterruptedRunError(
            f"stopped at step {self.state.step} of {self.total_steps}; a checkpoint was left",
            where=self.run.path,
            do=f"`opsin train {self.config.source} --name {self.run.name} --resume` goes on from there",
        )

    def _side(self) -> int | None:
        """Side of the images at this point of a run with several resolutions; None for the data's own size."""
        sides = self.settings.resolutions
        if not sides:
            return None
        epochs_done = self.state.epoch / self.settings.epochs
        progress = epochs_done if self.settings.minutes is None else max(epochs_done, self.progress)
        side = sides[min(int(progress * len(sides)), len(sides) - 1)]
        return None if side == self.preprocess.size.height == self.preprocess.size.width else side

    def _forward_function(self) -> Callable[[Tensor], dict[str, Tensor]]:
        network: Callable[[Tensor], dict[str, Tensor]] = self.network
        if self.precision.compile:
            network = torch.compile(self.network)  # type: ignore[assignment]
        if self.settings.checkpoint_activations:
            return lambda images: recompute(  # type: ignore[no-any-return]
                network,
                images,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), frozen_statistics(self.network)),
            )
        return network

    def _cpu_seconds(self) -> float:
        return self.state.cpu_seconds + self.usage.cpu_seconds()

    def _note(self, train: Mapping[str, float], val: Mapping[str, float]) -> str:
        name = self.task.main_score
        shown = f"loss {train['loss']:.3f}"
        if name in val:
            shown += f"  val {name} {val[name]:.4f}"
        if self.state.best_score is not None:
            shown += f"  best {self.state.best_score:.4f}"
        return shown


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms leave their running statistics alone: a recomputed forward pass must not count twice."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(count)
