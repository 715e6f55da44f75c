"""What a run does next: decided only here, and passed on as frozen values.

    before a step      StepDecision   learning rate, resolution, parts of the batch     from clock, schedule, memory
    after a step       Verdict        go on, save, end the epoch, stop                  from clock, signals, callbacks
    after an epoch     finished()     epochs, budget, patience

Where several processes train together, one decides and sends these values to the others: a clock, a signal or a refused
allocation of one of them must not let them part.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from opsin.config import RunConfig
from opsin.group import Group
from opsin.training.engine.clock import Clock
from opsin.training.engine.guards import StopRequest, is_out_of_memory
from opsin.training.engine.restarts import RestartNotes
from opsin.training.engine.schedules import Plateau, schedule_factor
from opsin.training.engine.stages import Stages
from opsin.training.engine.state import State

EXCHANGE_S = 1.0
"""How late a process may learn of a signal to another, where nothing else is exchanged. A launcher that stops its
processes (Slurm, a preempted machine) ends them 10 to 30 seconds after the signal."""
MAX_GROWTH = 4
MAX_STEPS = 256
"""Steps between two exchanges: at most so many, and so many times those before."""


@dataclass(frozen=True, kw_only=True)
class StepDecision:
    """How the next step is taken.

    `step`, `epoch`: their numbers, from 0; randomness is drawn from them. `factor`: share of the peak learning rate.
    `parts`: number of parts the batch is split into; their gradients are summed.
    """

    step: int
    epoch: int
    factor: float
    parts: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What follows a step. `interrupt`: a checkpoint, and the end of the call. `end_epoch`: its scores, now."""

    interrupt: bool = False
    end_epoch: bool = False
    checkpoint: bool = False


class Decisions:
    """Decides for one run.

    Args:
        config: all settings, resolved.
        state: the training state; the decisions are written into it.
        clock: of the training.
        stages: which parameters are trained in which epoch.
    """

    def __init__(self, config: RunConfig, state: State, clock: Clock, stages: Stages, stop: StopRequest) -> None:
        self.settings = config.train
        self.state, self.clock, self.stages, self.stop = state, clock, stages, stop
        self.plateau = Plateau()
        self.asked_to_stop = ""
        """Why a callback asks the run to end."""

    def begin(self) -> None:
        """Continue training from the present state."""
        # an early stop is final unless the patience has grown: it may have been made just before a kill
        self.state.stopped = "early" if out_of_patience(self.state, self.settings.patience) else ""
        self.asked_to_stop = ""
        self.clock.begin()

    def height(self) -> int | None:
        """Height of the images in the coming epoch, for a run with several resolutions; None for that of the input."""
        heights = self.settings.resolutions
        if not heights:
            return None
        epochs_done = self.state.epoch / self.settings.epochs
        progress = epochs_done if self.settings.minutes is None else max(epochs_done, self.clock.progress())
        return heights[min(int(progress * len(heights)), len(heights) - 1)]

    def step(self) -> StepDecision:
        """The next step."""
        state, settings = self.state, self.settings
        progress = self.stages.progress(self.clock.progress(), state.epoch)
        factor = schedule_factor(settings.schedule, progress, warmup=settings.warmup) * self.plateau.factor
        factor /= 1 + settings.rate_decay * state.step
        return StepDecision(step=state.step, epoch=state.epoch, factor=factor, parts=state.accumulate)

    def parts_after(self, error: BaseException, count: int) -> int | None:
        """Twice as many parts for a batch of `count` images, if `error` is an out-of-memory error."""
        parts = self.state.accumulate * 2
        return parts if is_out_of_memory(error) and parts <= count else None

    def after_step(self) -> Verdict:
        """What follows the step that was just taken."""
        if self.stop.made:
            return Verdict(interrupt=True)
        used_up = self.settings.minutes is not None and self.clock.progress() >= 1
        if used_up or self.asked_to_stop:
            return Verdict(end_epoch=True)
        return Verdict(checkpoint=self.clock.since_checkpoint() > 60 * self.settings.checkpoint_minutes)

    def saves_epoch(self) -> bool:
        """Whether the finished epoch gets a checkpoint: not if it took a second; the end of the run always does."""
        return self.clock.since_checkpoint() > min(20.0, 60 * self.settings.checkpoint_minutes)

    def interrupted(self) -> bool:
        """Whether the run was asked to end while nobody looked: as the last epoch was scored."""
        return self.stop.made

    def after_epoch(self, train: Mapping[str, float], val: Mapping[str, float]) -> None:
        """Update the plateau factor and the patience from the epoch's scores."""
        if self.settings.schedule == "plateau":
            self.plateau.see(val.get("loss", train["loss"]))
        if out_of_patience(self.state, self.settings.patience):
            self.state.stopped = "early"

    def finished(self) -> bool:
        """Whether nothing is left to train; `state.stopped` says why, where it is not the number of epochs."""
        if self.asked_to_stop and not self.state.stopped:
            self.state.stopped = self.asked_to_stop
        if self.state.stopped:
            return True
        used_up = self.settings.minutes is not None and self.clock.progress() >= 1
        if used_up and self.state.epoch < self.settings.epochs and not self.clock.owes_a_step():
            self.state.stopped = "minutes"
            return True
        return self.state.epoch >= self.settings.epochs

    def ask_to_stop(self, reason: str) -> None:
        """End the run after scoring this epoch; the first reason counts."""
        self.asked_to_stop = self.asked_to_stop or reason or "callback"


class SharedDecisions(Decisions):
    """Decides for several processes: the lead does, and the others are sent what it decides.

    A signal counts whichever process it was sent to. What follows from steps and scores alone is decided by each
    process, as all have the same. The rest (signals, the time of a checkpoint, what a callback asks for) is exchanged
    about once a second, after steps that the exchange before has named; after every step where a clock sets the
    learning rate (`--minutes`) or the lead has callbacks of the user's, which may end an epoch after any step.
    """

    def __init__(
        self,
        config: RunConfig,
        state: State,
        clock: Clock,
        stages: Stages,
        stop: StopRequest,
        group: Group,
        notes: RestartNotes,
        *,
        every_step: bool = False,
    ) -> None:
        super().__init__(config, state, clock, stages, stop)
        self.group, self.notes = group, notes
        self.by_clock = self.settings.minutes is not None
        self.pace = ExchangePace(min(EXCHANGE_S, 60 * self.settings.checkpoint_minutes), every_step=every_step)
        self._factor: float | None = None
        """Share of the peak learning rate of the next step, where a clock sets it and it was sent already."""

    def begin(self) -> None:
        super().begin()
        self.pace.begin(self.state.step)

    def height(self) -> int | None:
        height: int | None = self.group.shared_plain(super().height())
        return height

    def step(self) -> StepDecision:
        own, factor = super().step(), self._factor
        if not self.by_clock:
            return own
        if factor is None:
            (factor,) = self.group.shared([own.factor])
        return replace(own, factor=factor)

    def parts_after(self, error: BaseException, count: int) -> int | None:
        """None: a step that one process could not take is not repeated by the others, which wait for it.

        The number of parts is kept, so that the group takes it when it is started again.
        """
        if parts := super().parts_after(error, count):
            self.notes.keep({"parts": parts})
        return None

    def after_step(self) -> Verdict:
        if not self.by_clock and self.state.step < self.pace.next_step:
            return Verdict()
        own = super().after_step()
        told = [own.end_epoch, own.checkpoint, super().step().factor, self.pace.steps(self.state.step)]
        # of what the lead decides, others add nothing to the largest
        lead = [float(value) if self.group.leads else 0.0 for value in told]
        interrupt, end_epoch, checkpoint, factor, steps = self.group.largest([float(own.interrupt), *lead])
        self.pace.go_on(self.state.step, int(steps))
        self._factor = None if end_epoch else factor
        return Verdict(
            interrupt=bool(interrupt), end_epoch=bool(end_epoch and not interrupt), checkpoint=bool(checkpoint)
        )

    def saves_epoch(self) -> bool:
        return bool(self.group.shared([super().saves_epoch()])[0])

    def finished(self) -> bool:
        self._factor = None  # time has passed since the last step
        done, self.state.stopped = self.group.shared_plain([super().finished(), self.state.stopped])
        return bool(done)

    def interrupted(self) -> bool:
        return bool(self.group.largest([super().interrupted()])[0])


class ExchangePace:
    """After how many steps processes exchange what they cannot know of each other.

    Args:
        seconds: that an exchange may be late.
        every_step: exchange after each step.
    """

    def __init__(self, seconds: float, *, every_step: bool) -> None:
        self.seconds, self.every_step = seconds, every_step
        self.next_step = 0
        """Number of steps done at the next exchange."""
        self._done, self._at = 0, 0.0

    def begin(self, done: int) -> None:
        """A call begins, with `done` steps done: the first exchange follows its first step."""
        self._done, self._at, self.next_step = done, time.monotonic(), done + 1

    def steps(self, done: int) -> int:
        """Steps until the exchange after this one: as many as last as long, as steps went since the one before."""
        if self.every_step:
            return 1
        taken = done - self._done
        fitting = int(self.seconds * taken / max(time.monotonic() - self._at, 1e-9))
        return max(1, min(fitting, MAX_GROWTH * taken, MAX_STEPS))

    def go_on(self, done: int, steps: int) -> None:
        """An exchange has taken place after `done` steps, and the next follows `steps` more."""
        self._done, self._at, self.next_step = done, time.monotonic(), done + steps


def out_of_patience(state: State, patience: int) -> bool:
    """Whether the score on val has not improved for `patience` epochs; 0 never stops."""
    return bool(patience) and state.stale_epochs >= patience


def why_nothing_is_left(state: State, epochs: int) -> str:
    """The message of a run that has nothing left to train."""
    if state.stopped == "minutes":
        return "no step was taken: the budget was used up; give more --minutes for this call"
    return f"nothing is left to train: all {epochs} epochs are done; a larger --epochs continues it"
