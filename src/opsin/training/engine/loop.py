"""The training loop: batches in, weights out, with everything that the next step depends on in a checkpoint.

    fit ─ while not finished:  epoch ─ for each batch:  decide ─ step ─ tell callbacks ─ save, interrupt or go on
                               score ─ keep the best ─ log ─ tell callbacks ─ decide ─ save

What is done next is decided in `decisions.py`, how weights change is `step.py`, what looks on is a callback
(`hooks.py`). What a step does is a function of (config, step, weights, optimizer state) alone: the order of samples,
augmentation and dropout are drawn from (seed, epoch, sample) or (seed, step). So a run that is killed and resumed ends
with the same bits as one that was not.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from opsin.artifact import Artifact
from opsin.batches.batch import Batch
from opsin.batches.loader import batches, gather, steps_per_epoch
from opsin.config import RunConfig
from opsin.data.samples import Samples
from opsin.errors import DivergedError, InterruptedRunError
from opsin.inference.predictor import Predictor
from opsin.progress import Reporter
from opsin.runs import RUNS_FOLDER, Run
from opsin.tasks.base import Arrays, Targets, Task
from opsin.training.engine import checkpoints, guards, machine
from opsin.training.engine.budget import Budget
from opsin.training.engine.checkpoints import Checkpoint
from opsin.training.engine.clock import Clock
from opsin.training.engine.decisions import Decisions, StepDecision
from opsin.training.engine.epoch_lines import EpochLines
from opsin.training.engine.hooks import Callback, EpochContext, EventContext, StepContext, check_callbacks
from opsin.training.engine.kept import KeptWeights
from opsin.training.engine.observers import EpochMessages, ProgressBar
from opsin.training.engine.precision import Precision
from opsin.training.engine.randomness import generators_kept
from opsin.training.engine.schedules import Plateau
from opsin.training.engine.state import State, state_of
from opsin.training.engine.step import Stepper
from opsin.training.engine.tensorboard import TensorBoardLog
from opsin.training.features import Features, HeadStepper, head_predictions
from opsin.types import SplitName

PROBED = 16
"""Images whose scoring is timed, so that a budget in minutes has room for all."""


class Trainer:
    """One run in the making.

    Args:
        task: loss, decoding and scores.
        artifact: the network in its starting state, which is trained in place, and its contract.
        splits: packed samples; "train" is trained on, "val" is scored after each epoch where there is one.
        config: all settings, resolved.
        precision: how the passes are computed.
        run: folder that the log and the checkpoints go to.
        features: frozen features of train and val; with them the heads alone are trained, and images are not looked at.
        budget: of the whole run or of its resumption, by the clock on the wall; None goes on with what is left.
        scored_at_end: number of images that are scored after training, for which the budget has to last.
        callbacks: look on, in this order, after the engine's own.

    Raises:
        ConfigError: what is no callback.
    """

    def __init__(
        self,
        *,
        task: Task,
        artifact: Artifact,
        splits: Mapping[SplitName, Samples],
        config: RunConfig,
        precision: Precision,
        device: torch.device,
        run: Run,
        report: Reporter,
        features: Features | None = None,
        budget: Budget | None = None,
        scored_at_end: int = 0,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        check_callbacks(callbacks)
        self.config, self.settings = config, config.train
        self.task, self.artifact, self.features = task, artifact, features
        self.train_samples, self.val_samples = splits["train"], splits.get("val")
        self.device, self.run, self.report = device, run, report
        self.stepper = (Stepper if features is None else HeadStepper)(
            artifact.network,
            task=task,
            preprocess=artifact.preprocess,
            config=config,
            precision=precision,
            device=device,
            num_classes=len(artifact.classes),
            sample_ids=self.train_samples.ids,
        )
        self.network, self.optimizer = self.stepper.network, self.stepper.optimizer
        self.state = State(accumulate=self.settings.accumulate)
        self.kept = KeptWeights(self.network, decay=self.settings.ema, restores_best=self.settings.restore_best)
        self.steps_per_epoch = steps_per_epoch(len(self.train_samples.images), self.settings.batch_size, training=True)
        self.total_steps = self.steps_per_epoch * self.settings.epochs
        self.clock = Clock(
            self.settings,
            self.state,
            total_steps=self.total_steps,
            budget=budget,
            scored_per_epoch=0 if self.val_samples is None or features is not None else len(self.val_samples),
            scored_at_end=scored_at_end,
        )
        self.stop = guards.StopRequest(report.message)
        self.decisions = Decisions(config, self.state, self.clock, self.stepper.stages, self.stop)
        own = [self.kept, *([TensorBoardLog(run.path / "tensorboard")] if self.settings.tensorboard else [])]
        self.callbacks: list[Callback] = [*own, *callbacks]

    def fit(self) -> State:
        """Train to the end, from wherever the state stands.

        Raises:
            InterruptedRunError: after Ctrl-C, SIGTERM or SIGHUP; a checkpoint was written.
            DivergedError: the loss, a gradient or a weight is not finite.
        """
        try:
            self._begin()
            with self._watched():
                while not self.decisions.finished():
                    began_s = self.clock.seconds()
                    self._train_epoch()
                    self._end_epoch(began_s)
                    if self.decisions.saves_epoch():
                        self.save_checkpoint()
            if self.stop.made:  # while the last epoch was scored
                self._interrupt()
            self.save_checkpoint()
        except DivergedError as error:
            self.event("diverged", error.what)
            raise
        self.clock.stop()
        return self.state

    def _train_epoch(self) -> None:
        """The steps of the epoch that are left."""
        epoch = self.state.epoch
        self.network.train()
        with closing(self._batches(epoch, self.decisions.height())) as seen_batches:
            for seen in seen_batches:
                self._step(seen, self.decisions.step())
                verdict = self.decisions.after_step()
                if verdict.interrupt:
                    self._interrupt()
                if verdict.end_epoch:
                    return
                if verdict.checkpoint:
                    self.save_checkpoint()

    def _batches(self, epoch: int, height: int | None) -> Generator[Batch]:
        """What the network sees in the epoch, prepared ahead, from the step on at which the state stands."""
        return batches(
            self.train_samples if self.features is None else self.features.of_epoch(epoch),
            self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
            training=True,
            start_step=self.state.step - self.state.epoch_start,
            prepare=partial(self.stepper.see, epoch=epoch, height=height),
        )

    def _step(self, seen: Batch, decision: StepDecision) -> None:
        """One step, and what is told of it; when memory does not suffice, the batch is cut and tried again."""
        while True:
            parts: int | None = None
            try:
                losses = self.stepper.train(
                    seen, step=decision.step, epoch=decision.epoch, factor=decision.factor, parts=decision.parts
                )
            except (RuntimeError, MemoryError) as error:
                parts = self.decisions.parts_after(error, len(seen))
                if parts is None:
                    raise
            if parts is None:
                break
            # outside the handler, whose traceback holds the tensors of the step that failed
            self._cut_batches(parts)
            decision = replace(decision, parts=parts)
        self.state.lr = self.settings.lr * decision.factor * self.stepper.stages.rate(decision.epoch)
        self.state.step += 1
        self._tell_step(decision, losses, len(seen))

    def _end_epoch(self, began_s: float) -> None:
        """Score the epoch on val, keep the best weights, log it, and tell of it.

        Args:
            began_s: seconds of training at which the epoch began, or was resumed.
        """
        self._count_losses()
        guards.check_weights(self.network, step=self.state.step)
        train = self.state.end_epoch()
        val = self._score_val()
        best = self.kept.see(val.get(self.task.main_score), self.state)
        self.decisions.after_epoch(train, val)
        self._tell_epoch(train, val, best=best, began_s=began_s)
        if self.state.stopped == "early":
            message = f"no better val score for {self.settings.patience} epochs: stopped"
            self.event("early_stop", message)
            self.report.message(message)

    def _score_val(self) -> dict[str, float]:
        """Scores on val; empty without that split."""
        if self.val_samples is None:
            return {}
        began = time.monotonic()
        with self.kept.scored():
            predictions = self._val_predictions(self.val_samples)
        scores = self.task.scores(predictions, Targets.of(self.val_samples), self.artifact.classes, intervals=False)
        if self.features is None:
            self.clock.scoring_seconds = (time.monotonic() - began) / len(self.val_samples)
        if self.clock.budget is not None:
            self.clock.set_budget()
        return {key: score.value for key, score in scores.items()}

    def _val_predictions(self, samples: Samples) -> Arrays:
        if self.features is not None and self.features.val is not None:
            return head_predictions(self.network, self.task, self.features.val, self.device)
        return Predictor(self.artifact_of(self.network), device=self.device).samples(samples)

    def _tell_step(self, decision: StepDecision, losses: Mapping[str, Tensor], count: int) -> None:
        for read in self.stepper.reader.take():
            self.state.count(read.means, read.count)
        context = StepContext(
            step=self.state.step,
            epoch=decision.epoch,
            losses=losses,
            lr=self.state.lr,
            count=count,
            network=self.network,
            stop=self.decisions.ask_to_stop,
        )
        for callback in self.callbacks:
            callback.on_step(context)

    def _tell_epoch(self, train: Mapping[str, float], val: Mapping[str, float], *, best: bool, began_s: float) -> None:
        record = self._epoch_record(train, val, best=best)
        self.run.event("epoch", **record)
        context = EpochContext(
            epoch=self.state.epoch,
            num_epochs=self.settings.epochs,
            step=self.state.step,
            train=train,
            val=val,
            best=best,
            lr=self.state.lr,
            seconds=self.clock.seconds(),
            epoch_seconds=self.clock.seconds() - began_s,
            record=record,
            network=self.network,
            stop=self.decisions.ask_to_stop,
        )
        for callback in self.callbacks:
            callback.on_epoch(context)

    def event(self, name: str, message: str, **values: Any) -> None:
        """Log what is no epoch, and tell the callbacks."""
        self.run.event(name, step=self.state.step, message=message, **values)
        context = EventContext(name=name, step=self.state.step, message=message, values=values)
        for callback in self.callbacks:
            callback.on_event(context)

    def _epoch_record(self, train: Mapping[str, float], val: Mapping[str, float], *, best: bool) -> dict[str, Any]:
        """What the log holds of the epoch that has ended."""
        seconds = self.clock.seconds()
        return {
            "epoch": self.state.epoch,
            "step": self.state.step,
            "seconds": round(seconds, 3),
            "lr": self.state.lr,
            "train": train,
            "val": val,
            "images_per_second": round(self.state.step * self.settings.batch_size / max(seconds, 1e-9), 1),
            "cpu_percent": self.clock.usage.cpu_percent(),
            "peak_memory_bytes": machine.peak_memory_bytes(),
            "best": best,
            **machine.gpu_usage(self.device),
        }

    def start_from(self, val: Mapping[str, float]) -> None:
        """Take the present weights, which score `val`, for the best so far: epochs that are worse leave them."""
        self.kept.see(val.get(self.task.main_score), self.state)

    def final_weights(self) -> Mapping[str, Tensor]:
        """What the artefact holds: the best epoch's weights, or the last ones."""
        return self.kept.final()

    def artifact_of(self, network: nn.Module) -> Artifact:
        """`network` under this run's contract."""
        return replace(self.artifact, network=network)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            RunError: its tensors are those of another network or optimizer.
        """
        with checkpoints.fitting(self.run.checkpoints_folder):
            self.kept.load(*(checkpoint.part(name) for name in ("network", "best", "average")))
            self.state.take(state_of(checkpoint.state, where="state.json"))
            checkpoints.load_optimizer(self.optimizer, checkpoint.part("optimizer"), self.state.optimizer)
            self.decisions.plateau = Plateau(**self.state.plateau)
        self.run.rewind(self.state.epoch)

    def save_checkpoint(self) -> None:
        """Write everything that the next step depends on.

        Raises:
            DivergedError: a loss, a gradient or a weight is not finite; the checkpoint before stays the newest.
        """
        self._count_losses()
        guards.check_weights(self.network, step=self.state.step)
        tensors, self.state.optimizer = checkpoints.optimizer_tensors(self.optimizer)
        self.state.plateau = vars(self.decisions.plateau)
        self.state.threads = torch.get_num_threads()
        times = {"seconds": self.clock.seconds(), "cpu_seconds": self.clock.cpu_seconds()}
        checkpoint = checkpoints.joined({**self.kept.tensors(), "optimizer": tensors}, vars(self.state) | times)
        checkpoints.save(self.run.checkpoints_folder, checkpoint)
        self.clock.checkpointed()

    def _begin(self) -> None:
        """Find out what is left to train, and say so where it is nothing."""
        self.decisions.begin()
        if self.state.stopped:
            self.report.message("this run had stopped early; a larger --patience goes on with it")
        if self.clock.budget is not None and not self.clock.scoring_seconds and self.val_samples is not None:
            self.clock.scoring_seconds = self._probe_scoring(self.val_samples)
        self.clock.set_budget()
        self.clock.grant_least()
        if self.decisions.finished() and self.state.stopped != "early":  # that is told already
            message = self.decisions.why_nothing_is_left()
            self.report.message(message)
            self.event("nothing_left", message)

    def _probe_scoring(self, samples: Samples) -> float:
        """Seconds that one image takes to be scored, by a few."""
        images = gather(samples, torch.arange(min(PROBED, len(samples)))).images
        predictor = Predictor(self.artifact_of(self.network), device=self.device)
        predictor.run(images)
        began = time.monotonic()
        predictor.run(images)
        return (time.monotonic() - began) / len(images)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Inside the block signals are remembered, and a person sees the progress."""
        lines = EpochLines(
            self.report.message,
            num_epochs=self.settings.epochs,
            budget_minutes=self.settings.minutes,
            score_title=self.task.score_kinds[self.task.main_score].short_title,
        )
        bar = self.report.bar("training", self.total_steps, earlier=self.state.step, budget_s=self.clock.budget_left())
        others = self.callbacks
        with generators_kept(self.device), self.stop.listening(), bar as shown, closing(lines):
            self.callbacks = [EpochMessages(lines, self.task.main_score), ProgressBar(shown), *others]
            try:
                yield
            finally:
                self.callbacks = others

    def _cut_batches(self, parts: int) -> None:
        """From here on each batch is cut into `parts`."""
        self.optimizer.zero_grad(set_to_none=True)
        self.state.accumulate = parts
        message = f"out of memory: from here on each batch is cut into {parts} parts, gradients added up"
        if self.settings.keep_memory and self.device.type == "cpu":
            message += "; with --no-keep-memory more fits, at the same numbers"
        self.report.message(message)
        self.event("memory_guard", message)

    def _count_losses(self) -> None:
        """Read the losses that wait, and add all to those of the epoch."""
        self.stepper.reader.check()
        for read in self.stepper.reader.take():
            self.state.count(read.means, read.count)

    def _interrupt(self) -> None:
        self.save_checkpoint()
        self.event("interrupt", "stopped by the user")
        raise InterruptedRunError(
            f"stopped at step {self.state.step} of {self.total_steps}; a checkpoint was left",
            where=self.run.path,
            do=f"`{command_to_resume(self.run, self.config)}` goes on from there",
        )


def command_to_resume(run: Run, config: RunConfig) -> str:
    """What the user types to go on with `run`."""
    out = run.path.parent
    place = [] if out == RUNS_FOLDER else ["--runs", str(out)]
    return shlex.join(["opsin", "train", config.source, "--name", run.name, *place, "--resume"])
