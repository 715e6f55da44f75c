"""The training loop: batches in, weights out, with everything that the next step depends on in a checkpoint.

    fit ─ while not finished:  epoch ─ for each batch:  decide ─ step ─ callbacks ─ save, interrupt or continue
                               score ─ keep the best ─ log ─ callbacks ─ decide ─ save

What is done next is decided in `decisions.py`, weights change in `step.py`, and observers are callbacks
(`hooks.py`). What a step does is a function of (config, step, weights, optimizer state) alone: the order of samples,
augmentation and dropout are drawn from (seed, epoch, sample) or (seed, step). So a run that is killed and resumed ends
with the same bits as one that was not.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from opsin.artifact import Artifact
from opsin.batches.batch import Batch
from opsin.batches.loader import batches, steps_per_epoch
from opsin.batches.mixing import ring_of
from opsin.config import RunConfig
from opsin.data.samples import Samples
from opsin.errors import DivergedError, InterruptedRunError
from opsin.group import ALONE, Group
from opsin.models.wrappers.forward import Precision
from opsin.progress import Reporter
from opsin.runs import RUNS_FOLDER, Run, RunWriter
from opsin.tasks.base import Task
from opsin.training.engine import guards
from opsin.training.engine.budget import Budget
from opsin.training.engine.checkpoints import Checkpoint
from opsin.training.engine.clock import Clock
from opsin.training.engine.decisions import Decisions, SharedDecisions, StepDecision, why_nothing_is_left
from opsin.training.engine.epoch_lines import EpochLines
from opsin.training.engine.hooks import Callback, check_callbacks
from opsin.training.engine.journal import Journal
from opsin.training.engine.kept import KeptWeights
from opsin.training.engine.losses import ReadLosses
from opsin.training.engine.observers import EpochMessages, PresentMistakes, ProgressBar
from opsin.training.engine.own_parts import NO_OWN_PARTS, OwnParts
from opsin.training.engine.randomness import generators_kept
from opsin.training.engine.restarts import RestartNotes
from opsin.training.engine.saving import Saver
from opsin.training.engine.shards import Shards, gathered
from opsin.training.engine.state import State
from opsin.training.engine.step import Stepper
from opsin.training.engine.tensorboard import TensorBoardLog
from opsin.training.engine.validation import Validation
from opsin.training.features import Features, HeadStepper
from opsin.types import SplitName


class Trainer:
    """Trains one run.

    Args:
        task: loss, decoding and scores.
        artifact: the network in its initial state, which is trained in place, and its input contract.
        splits: packed samples; "train" is trained on, "val" is scored after each epoch where there is one.
        config: all settings, resolved.
        precision: how the passes are computed.
        run: folder that the log and the checkpoints go to.
        features: frozen features of train and val; with them the heads alone are trained, and images are not looked at.
        budget: of the whole run or of its resumption, in wall-clock time; None continues with what is left.
        scored_at_end: number of images that are scored after training, for which the budget has to last.
        callbacks: called in this order, after the engine's own.
        own: the user's own augmentation and optimizer.
        group: processes that train together. Each is given the same of everything else; the lead alone writes.

    Raises:
        ConfigError: an invalid callback.
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
        callbacks: Sequence[Callback] = (),
        own: OwnParts = NO_OWN_PARTS,
        group: Group = ALONE,
    ) -> None:
        check_callbacks(callbacks)
        self.config, self.settings, self.group = config, config.train, group
        self.task, self.artifact, self.features = task, artifact, features
        self.train_samples = splits["train"].to_augment
        self.device, self.run, self.report = device, run, report
        self.stepper = self._made_stepper(precision, own)
        self.network, self.optimizer = self.stepper.network, self.stepper.optimizer
        self.state = State(accumulate=self.settings.accumulate)
        self.gathered: Mapping[str, Tensor] = {}
        self.kept = KeptWeights(self.network, decay=self.settings.ema, restores_best=self.settings.restore_best)
        self.steps_per_epoch = steps_per_epoch(len(self.train_samples.images), self.settings.batch_size, training=True)
        self.total_steps = self.steps_per_epoch * self.settings.epochs
        self.validation = Validation(
            task, self.artifact_of(self.network), splits.get("val"), features, device, group=group
        )
        num_scored = self.validation.num_images + scored_at_end
        self.clock = Clock(self.settings, self.state, self.total_steps, budget, num_scored)
        self.stop = guards.StopRequest(report.message)
        self.decisions = self._made_decisions(callbacks)
        logs = [TensorBoardLog(run.path / "tensorboard")] if self.settings.tensorboard and group.leads else []
        self.saver = Saver(run, self.state, self.clock, self.kept, self.optimizer, self.decisions, group)
        self.journal = Journal(run, self.state, self.clock, self.network, self.settings, self.decisions.ask_to_stop)
        self.journal.callbacks += [self.kept, *logs, *callbacks]

    def fit(self) -> State:
        """Train to the end, from the present state.

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
            if self.decisions.interrupted():
                self._interrupt()
            self.save_checkpoint()
            self._make_whole()
        except DivergedError as error:
            self.journal.event("diverged", error.what)
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
        """The input batches of the epoch, gathered ahead, from the present step on."""
        return batches(
            self.train_samples if self.features is None else self.features.of_epoch(epoch),
            self.settings.batch_size,
            seed=self.settings.seed,
            epoch=epoch,
            training=True,
            start_step=self.state.step - self.state.epoch_start,
            prepare=partial(self.stepper.see, epoch=epoch, height=height),
            group=self.group,
            ring=ring_of(self.config.augment, seed=self.settings.seed, epoch=epoch),
            window=self.config.data.shuffle_window,
        )

    def _step(self, seen: Batch, decision: StepDecision) -> None:
        """One step and its callbacks; after an out-of-memory error the batch is split and tried again."""
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
            self.cut_batches(parts)
            decision = replace(decision, parts=parts)
        self.state.lr = self.stepper.peak_lr * decision.factor * self.stepper.stages.rate(decision.epoch)
        self.state.step += 1
        self._count_losses(self.stepper.reader.take())
        count = len(seen) if seen.share is None else seen.share.whole
        self.journal.step(losses, epoch=decision.epoch, count=count)

    def _end_epoch(self, began_s: float) -> None:
        """Score the epoch on val, keep the best weights, log it, and notify callbacks.

        Args:
            began_s: seconds of training at which the epoch began, or was resumed.
        """
        self._count_losses(self.stepper.reader.drain())
        self.group.share_tensors(list(self.network.buffers()))
        guards.check_weights(self.network, step=self.state.step, group=self.group)
        train = self.state.end_epoch()
        with self.kept.scored():
            self.group.share_tensors(list(self.network.buffers()))
            val = self.validation.scores()
        self.clock.scoring_seconds = self.validation.seconds_per_image
        if self.clock.budget is not None:
            self.clock.set_budget()
        best = self.kept.see(val.get(self.task.main_score), self.state)
        self.decisions.after_epoch(train, val)
        self.journal.epoch(train, val, best=best, began_s=began_s)
        if self.state.stopped == "early":
            message = f"no better val score for {self.settings.patience} epochs: stopped"
            self.journal.event("early_stop", message)
            self.report.message(message)

    def _made_stepper(self, precision: Precision, own: OwnParts) -> Stepper:
        return (Stepper if self.features is None else HeadStepper)(
            self.artifact.network,
            task=self.task,
            preprocess=self.artifact.preprocess,
            config=self.config,
            precision=precision,
            device=self.device,
            num_classes=len(self.artifact.classes),
            sample_ids=self.train_samples.ids,
            own=own,
            group=self.group,
        )

    def _made_decisions(self, callbacks: Sequence[Callback]) -> Decisions:
        parts = (self.config, self.state, self.clock, self.stepper.stages, self.stop)
        if self.group.alone:
            return Decisions(*parts)
        notes = RestartNotes(self.run.path.parent)
        return SharedDecisions(*parts, self.group, notes, every_step=bool(callbacks))

    def start_from(self, val: Mapping[str, float]) -> None:
        """Take the present weights, which score `val`, as the best so far."""
        self.kept.see(val.get(self.task.main_score), self.state)

    def _make_whole(self) -> None:
        """Give the lead a whole network, where processes have held parts of one."""
        if not isinstance(self.stepper.replicas, Shards):
            return
        self.gathered = gathered(self.kept.final(), self.group)
        if self.group.leads:
            self.network = self.stepper.replicas.whole_network(self.gathered)

    def final_weights(self) -> Mapping[str, Tensor]:
        """The weights of the artefact: those of the best epoch, or the last ones. Whole on the lead, after `fit`."""
        return self.gathered or self.kept.final()

    def artifact_of(self, network: nn.Module) -> Artifact:
        """The artefact of `network` with this run's input contract."""
        return replace(self.artifact, network=network)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            RunError: its tensors are those of another network or optimizer.
        """
        self.saver.restore(checkpoint)

    def save_checkpoint(self) -> None:
        """Write everything that the next step depends on.

        Raises:
            DivergedError: a loss, a gradient or a weight is not finite; the checkpoint before stays the newest.
        """
        self._count_losses(self.stepper.reader.drain())
        self.group.share_tensors(list(self.network.buffers()))
        self.saver.save()

    def cut_batches(self, parts: int) -> None:
        """From here on each batch is split into `parts`."""
        self.optimizer.zero_grad(set_to_none=True)
        self.state.accumulate = parts
        message = f"out of memory: from here on each batch is split into {parts} parts, and gradients are summed"
        if self.settings.keep_memory and self.device.type == "cpu":
            message += "; with --no-keep-memory more fits, with the same results"
        self.report.message(message)
        self.journal.event("memory_guard", message)

    def _begin(self) -> None:
        """Determine what is left to train, with a message if nothing is."""
        self.decisions.begin()
        if self.state.stopped:
            self.report.message("this run stopped early; a larger --patience continues it")
        if self.clock.budget is not None and not isinstance(self.stepper.replicas, Shards):
            self.validation.probe()  # by the lead alone
            self.clock.scoring_seconds = self.validation.seconds_per_image
        self.clock.set_budget()
        self.clock.grant_least()
        if self.decisions.finished() and self.state.stopped != "early":  # reported already
            message = why_nothing_is_left(self.state, self.settings.epochs)
            self.report.message(message)
            self.journal.event("nothing_left", message)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Context in which signals are remembered and progress is shown."""
        lines = EpochLines(
            self.report.message,
            num_epochs=self.settings.epochs,
            budget_minutes=self.settings.minutes,
            score_title=self.task.score_kinds[self.task.main_score].short_title,
        )
        bar = self.report.bar("training", self.total_steps, earlier=self.state.step, budget_s=self.clock.budget_left())
        with generators_kept(self.device), self.stop.listening(), bar as shown, closing(lines) as kept_lines:
            shown_by: list[Callback] = [EpochMessages(kept_lines, self.task.main_score), ProgressBar(shown)]
            shown_by.append(PresentMistakes(self.validation, self.run))
            self.journal.callbacks[:0] = shown_by
            try:
                yield
            finally:
                del self.journal.callbacks[: len(shown_by)]

    def _count_losses(self, losses: Sequence[ReadLosses]) -> None:
        for read in losses:
            self.state.count(read.means, read.count)

    def _interrupt(self) -> None:
        self.save_checkpoint()
        self.journal.event("interrupt", "stopped by the user")
        raise InterruptedRunError(
            f"stopped at step {self.state.step} of {self.total_steps}; a checkpoint was left",
            where=self.run.path,
            do=f"`{command_to_resume(self.run.run, self.config)}` continues from there",
        )


def command_to_resume(run: Run, config: RunConfig) -> str:
    """The command that continues `run`."""
    out = run.path.parent
    place = [] if out == RUNS_FOLDER else ["--runs", str(out)]
    return shlex.join(["opsin", "train", config.source, "--name", run.name, *place, "--resume"])
