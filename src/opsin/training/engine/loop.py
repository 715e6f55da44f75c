"""The training loop: batches in, weights out, with everything that the next step depends on in a checkpoint.

What a step does is a function of (config, step, weights, optimizer state) alone: the order of samples, augmentation and
dropout are drawn from (seed, epoch, sample) or (seed, step). So a run that is killed and resumed ends with the same
bits as one that was not.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace

import torch
from torch import Tensor, nn

from opsin.artifact import Artifact
from opsin.batches.batch import Batch
from opsin.batches.loader import batches, gather, steps_per_epoch
from opsin.config import RunConfig
from opsin.data.samples import Samples
from opsin.errors import DivergedError, InterruptedRunError, RunError
from opsin.inference.predictor import Predictor
from opsin.progress import Bar, Reporter
from opsin.runs import RUNS_FOLDER, Run, RunWriter
from opsin.tasks.base import Arrays, Targets, Task
from opsin.training.engine import checkpoints, guards, machine
from opsin.training.engine.budget import Budget
from opsin.training.engine.checkpoints import Checkpoint
from opsin.training.engine.ema import MovingAverage
from opsin.training.engine.epoch_lines import EpochLines, EpochResult
from opsin.training.engine.own_parts import NO_OWN_PARTS, OwnParts
from opsin.training.engine.precision import Precision
from opsin.training.engine.schedules import Plateau, schedule_factor
from opsin.training.engine.state import State, state_of
from opsin.training.engine.step import Stepper
from opsin.training.engine.tensorboard import log_epoch
from opsin.training.engine.threads import ThreadWatch
from opsin.training.features import Features, HeadStepper, head_predictions
from opsin.types import SplitName

PROBED = 16
"""Images whose scoring is timed, so that a budget in minutes has room for all."""
EpochWatch = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch, when it is logged, with its number and its scores on val; what it raises ends the run."""


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
        own: the user's own augmentation and optimizer.
        watch: called after each epoch.
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
        run: RunWriter,
        report: Reporter,
        features: Features | None = None,
        budget: Budget | None = None,
        scored_at_end: int = 0,
        own: OwnParts = NO_OWN_PARTS,
        watch: EpochWatch | None = None,
    ) -> None:
        self.config, self.settings = config, config.train
        self.task, self.artifact = task, artifact
        self.features = features
        self.budget, self.scored_at_end, self.watch = budget, scored_at_end, watch
        self.scoring_seconds = 0.0
        self._first_step = 0
        self.train_samples, self.val_samples = splits["train"], splits.get("val")
        self.device, self.run, self.report = device, run, report
        kind = Stepper if features is None else HeadStepper
        self.stepper = kind(
            artifact.network,
            task=task,
            preprocess=artifact.preprocess,
            config=config,
            precision=precision,
            device=device,
            num_classes=len(artifact.classes),
            sample_ids=self.train_samples.ids,
            own=own,
        )
        self.network, self.optimizer = self.stepper.network, self.stepper.optimizer
        self.average = MovingAverage(self.network, self.settings.ema) if self.settings.ema else None
        self.best: dict[str, Tensor] = {}
        self.plateau = Plateau()
        self.state = State(accumulate=self.settings.accumulate)
        self.steps_per_epoch = steps_per_epoch(len(self.train_samples.images), self.settings.batch_size, training=True)
        self.total_steps = self.steps_per_epoch * self.settings.epochs
        self.usage = machine.Usage()
        self.thread_watch: ThreadWatch | None = None
        self.lines = EpochLines(
            report.message,
            num_epochs=self.settings.epochs,
            budget_minutes=self.settings.minutes,
            score_title=task.score_kinds[task.main_score].short_title,
        )
        self._checkpointed = time.monotonic()

    @property
    def progress(self) -> float:
        """Share of the run that is done, in steps or minutes, whichever is further on."""
        share = self.state.step / self.total_steps
        if self.settings.minutes is None:
            return share
        return max(share, self.seconds / max(self.state.budget_seconds, 1e-9))

    @property
    def seconds(self) -> float:
        """Training time so far, over all resumptions."""
        return self.state.seconds + self.usage.seconds()

    def fit(self) -> State:
        """Train to the end, from wherever the state stands.

        Raises:
            InterruptedRunError: after Ctrl-C, SIGTERM or SIGHUP; a checkpoint was written.
            DivergedError: the loss, a gradient or a weight is not finite.
        """
        try:
            return self._fit()
        except DivergedError as error:
            self.run.event("diverged", step=self.state.step, message=error.what)
            raise

    def _fit(self) -> State:
        stop = guards.StopRequest(self.report.message)
        self.usage.reset()
        # an early stop is final unless the patience has grown: it may have been made just before a kill
        patience = self.settings.patience
        self.state.stopped = "early" if patience and self.state.stale_epochs >= patience else ""
        if self.state.stopped:
            self.report.message("this run had stopped early; a larger --patience goes on with it")
        self._first_step = self.state.step
        self._set_budget()
        if self.budget is not None:
            self.state.budget_seconds = max(self.state.budget_seconds, self.seconds + self.budget.least_s)
        if self._finished():
            self._tell_that_nothing_is_left()
        budget_s = None if self.settings.minutes is None else self.state.budget_seconds - self.seconds
        bar_of_steps = self.report.bar("training", self.total_steps, earlier=self.state.step, budget_s=budget_s)
        with stop.listening(), bar_of_steps as bar, closing(self.lines):
            while not self._finished():
                began_s = self.seconds
                self._train_epoch(stop, bar)
                self._end_epoch(bar, began_s)
                self._checkpoint_if_due()
        if stop.made:  # while the last epoch was scored
            self._interrupt()
        self.save_checkpoint()
        self.state.seconds, self.state.cpu_seconds = self.seconds, self._cpu_seconds()
        self.usage.reset()
        return self.state

    def start_from(self, val: Mapping[str, float]) -> None:
        """Take the present weights, which score `val`, for the best so far: epochs that are worse leave them."""
        self._keep_if_best(val)

    def _set_budget(self) -> None:
        """The training time at which the budget in minutes ends: scoring and the report are to fit into it."""
        if self.settings.minutes is None:
            return
        if self.budget is None:
            self.state.budget_seconds = self.state.budget_seconds or 60 * self.settings.minutes
            return
        if not self.scoring_seconds and self.val_samples is not None:
            self.scoring_seconds = self._probe_scoring(self.val_samples)
        num_val = 0 if self.val_samples is None or self.features is not None else len(self.val_samples)
        left = self.budget.for_training(self.scoring_seconds * (num_val + self.scored_at_end))
        self.state.budget_seconds = self.seconds + left

    def _probe_scoring(self, samples: Samples) -> float:
        """Seconds that one image takes to be scored, by a few."""
        images = gather(samples, torch.arange(min(PROBED, len(samples)))).images
        predictor = Predictor(self.artifact_of(self.network), device=self.device)
        predictor.run(images)
        began = time.monotonic()
        predictor.run(images)
        return (time.monotonic() - began) / len(images)

    def _owes_a_step(self) -> bool:
        """A budget that was given for this call trains something, however slow the machine was before that."""
        return self.budget is not None and self.state.step == self._first_step

    def _tell_that_nothing_is_left(self) -> None:
        epochs = self.settings.epochs
        message = f"nothing is left to train: all {epochs} epochs are done; a larger --epochs goes on"
        if self.state.stopped == "minutes":
            message = "no step was taken: the budget had ended; give --minutes for this call, or more of them"
        if self.state.stopped != "early":  # that is told already
            self.report.message(message)
            self.run.event("nothing_left", step=self.state.step, message=message)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            RunError: its tensors are those of another network or optimizer.
        """
        try:
            self.network.load_state_dict(checkpoint.part("network"))
            self.best = checkpoint.part("best")
            if self.average:
                self.average.load(checkpoint.part("average"))
            self.state = state_of(checkpoint.state, where="state.json")
            checkpoints.load_optimizer(self.optimizer, checkpoint.part("optimizer"), self.state.optimizer)
            self.plateau = Plateau(**self.state.plateau)
        except (RuntimeError, LookupError, TypeError, ValueError) as error:
            what, got = "a checkpoint does not fit this run", str(error).splitlines()[0]
            do = "put back the checkpoints that this run has written"
            raise RunError(what, where=self.run.checkpoints_folder, got=got, do=do) from error
        self.run.rewind(self.state.epoch)

    def save_checkpoint(self) -> None:
        """Write everything that the next step depends on.

        Raises:
            DivergedError: a weight is not finite; the checkpoint before stays the newest.
        """
        guards.check_weights(self.network, step=self.state.step)
        tensors, plain = checkpoints.optimizer_tensors(self.optimizer)
        self.state.optimizer, self.state.plateau = plain, vars(self.plateau)
        self.state.threads = torch.get_num_threads()
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
        used_up = self.settings.minutes is not None and self.progress >= 1
        if used_up and self.state.epoch < self.settings.epochs and not self._owes_a_step():
            self.state.stopped = "minutes"
            return True
        return self.state.epoch >= self.settings.epochs

    def _train_epoch(self, stop: guards.StopRequest, bar: Bar) -> None:
        height = self._height()
        epoch = self.state.epoch
        start = self.state.step - self.state.epoch_start
        self.network.train()
        stream = batches(
            self.train_samples if self.features is None else self.features.of_epoch(epoch),
            self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
            training=True,
            start_step=start,
        )
        if self.thread_watch:
            self.thread_watch.begin()
        for batch in stream:
            self._step_within_memory(batch, epoch=epoch, height=height)
            if self.thread_watch:
                self.thread_watch.stepped()
            bar.advance(note=f"epoch {epoch + 1}")
            if stop.made:
                self._interrupt()
            if self.settings.minutes is not None and self.progress >= 1:
                return
            if time.monotonic() - self._checkpointed > 60 * self.settings.checkpoint_minutes:
                self.save_checkpoint()

    def _step_within_memory(self, batch: Batch, *, epoch: int, height: int | None) -> None:
        """One step; when memory does not suffice, the batch is cut into twice as many parts and tried again."""
        while True:
            try:
                self._step(batch, epoch=epoch, height=height)
            except (RuntimeError, MemoryError) as error:
                parts = self.state.accumulate * 2
                if not guards.is_out_of_memory(error) or parts > len(batch):
                    raise
                self.optimizer.zero_grad(set_to_none=True)
                self.state.accumulate = parts
                message = f"out of memory: from here on each batch is cut into {parts} parts, gradients added up"
                if self.settings.keep_memory and self.device.type == "cpu":
                    message += "; with --no-keep-memory more fits, at the same numbers"
                self.report.message(message)
                self.run.event("memory_guard", step=self.state.step, message=message)
            else:
                return

    def _step(self, batch: Batch, *, epoch: int, height: int | None) -> None:
        settings, state = self.settings, self.state
        progress = self.stepper.stages.progress(self.progress, epoch)
        factor = schedule_factor(settings.schedule, progress, warmup=settings.warmup) * self.plateau.factor
        losses = self.stepper.step(
            batch, step=state.step, epoch=epoch, factor=factor, height=height, parts=state.accumulate
        )
        state.lr = settings.lr * factor * self.stepper.stages.rate(epoch)
        state.step += 1
        if self.average:
            self.average.update(state.step)
        self._count(losses, len(batch))

    def _count(self, losses: Mapping[str, float], count: int) -> None:
        sums = self.state.sums
        sums["count"] = sums.get("count", 0.0) + count
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + value * count

    def _end_epoch(self, bar: Bar, began_s: float) -> None:
        """Score the epoch on val, log it, keep the best weights, and decide whether to go on.

        Args:
            bar: of the steps.
            began_s: seconds of training at which the epoch began, or was resumed.
        """
        guards.check_weights(self.network, step=self.state.step)
        sums = self.state.sums
        count = sums.pop("count", 1.0)
        train = {key: value / count for key, value in sums.items()}
        self.state.sums = {}
        self.state.epoch, self.state.epoch_start = self.state.epoch + 1, self.state.step
        began = time.monotonic()
        val = self._score_val()
        if self.val_samples is not None and self.features is None:
            self.scoring_seconds = (time.monotonic() - began) / len(self.val_samples)
        if self.budget is not None:
            self._set_budget()
        best = self._keep_if_best(val)
        if self.settings.schedule == "plateau":
            self.plateau.see(val.get("loss", train["loss"]))
        self._log_epoch(train, val, best=best)
        self.lines.epoch(
            EpochResult(
                epoch=self.state.epoch,
                minutes=self.seconds / 60,
                seconds=self.seconds - began_s,
                loss=train["loss"],
                val_score=val.get(self.task.main_score),
                best=best,
            )
        )
        bar.at(self.state.step)
        if self.watch is not None:
            self.watch(self.state.epoch, val)
        if self.settings.patience and self.state.stale_epochs >= self.settings.patience:
            self.state.stopped = "early"
            message = f"no better val score for {self.settings.patience} epochs: stopped"
            self.run.event("early_stop", step=self.state.step, message=message)
            self.report.message(message)

    def _log_epoch(self, train: Mapping[str, float], val: Mapping[str, float], *, best: bool) -> None:
        seconds = self.seconds
        epoch = {
            "epoch": self.state.epoch,
            "step": self.state.step,
            "seconds": round(seconds, 3),
            "lr": self.state.lr,
            "train": train,
            "val": val,
            "images_per_second": round(self.state.step * self.settings.batch_size / max(seconds, 1e-9), 1),
            "cpu_percent": self.usage.cpu_percent(),
            "peak_memory_bytes": machine.peak_memory_bytes(),
            "best": best,
            **machine.gpu_usage(self.device),
        }
        self.run.event("epoch", **epoch)
        if self.settings.tensorboard:
            log_epoch(self.run.path / "tensorboard", epoch)

    def _score_val(self) -> dict[str, float]:
        if self.val_samples is None:
            return {}
        present = {key: value.clone() for key, value in self.network.state_dict().items()} if self.average else {}
        if self.average:
            self.network.load_state_dict(self.average.tensors)
        predictions = self._val_predictions(self.val_samples)
        if present:
            self.network.load_state_dict(present)
        scores = self.task.scores(predictions, Targets.of(self.val_samples), self.artifact.classes, intervals=False)
        return {key: score.value for key, score in scores.items()}

    def _val_predictions(self, samples: Samples) -> Arrays:
        if self.features is not None and self.features.val is not None:
            return head_predictions(self.network, self.task, self.features.val, self.device)
        return Predictor(self.artifact_of(self.network), device=self.device).samples(samples)

    def artifact_of(self, network: nn.Module) -> Artifact:
        """`network` under this run's contract."""
        return replace(self.artifact, network=network)

    def _keep_if_best(self, val: Mapping[str, float]) -> bool:
        """Keep the weights if none before were better; of equals the later, whose rate had fallen further."""
        score, best = val.get(self.task.main_score), self.state.best_score
        if score is None or math.isnan(score):
            return False
        self.state.stale_epochs = 0 if best is None or score > best else self.state.stale_epochs + 1
        if best is not None and score < best:
            return False
        self.state.best_score, self.state.best_epoch = score, self.state.epoch
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
            do=f"`{command_to_resume(self.run.run, self.config)}` goes on from there",
        )

    def _height(self) -> int | None:
        """Height of the images at this point of a run with several resolutions; None for that of the input."""
        heights = self.settings.resolutions
        if not heights:
            return None
        epochs_done = self.state.epoch / self.settings.epochs
        progress = epochs_done if self.settings.minutes is None else max(epochs_done, self.progress)
        return heights[min(int(progress * len(heights)), len(heights) - 1)]

    def _cpu_seconds(self) -> float:
        return self.state.cpu_seconds + self.usage.cpu_seconds()


def command_to_resume(run: Run, config: RunConfig) -> str:
    """What the user types to go on with `run`."""
    out = run.path.parent
    place = [] if out == RUNS_FOLDER else ["--runs", str(out)]
    return shlex.join(["opsin", "train", config.source, "--name", run.name, *place, "--resume"])
