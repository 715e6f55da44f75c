"""The time of a training: how long it took over all resumptions, and when its budget in minutes ends."""

from __future__ import annotations

import time

from opsin.config import TrainConfig
from opsin.training.engine.budget import Budget
from opsin.training.engine.machine import Usage
from opsin.training.engine.state import State


class Clock:
    """The progress of a run in time.

    Args:
        settings: epochs and minutes.
        state: the training state.
        total_steps: steps of all epochs.
        budget: of this call, in wall-clock time; None continues with what is left of the run's.
        num_scored: images whose scoring the budget must cover, at the end of this epoch and of the run.
    """

    def __init__(
        self,
        settings: TrainConfig,
        state: State,
        total_steps: int,
        budget: Budget | None = None,
        num_scored: int = 0,
    ) -> None:
        self.settings, self.state, self.total_steps = settings, state, total_steps
        self.budget = budget
        self.num_scored = num_scored
        self.usage = Usage()
        self.scoring_seconds = 0.0
        """Seconds that one image takes to be scored."""
        self._first_step = 0
        self.checkpointed_at = time.monotonic()
        """When the last checkpoint was written, or the run was made."""

    def begin(self) -> None:
        """Start the clock of a call that trains from the present state."""
        self.usage.reset()
        self._first_step = self.state.step

    def seconds(self) -> float:
        """Training time so far, over all resumptions."""
        return self.state.seconds + self.usage.seconds()

    def cpu_seconds(self) -> float:
        """Time on the processor so far, over all resumptions."""
        return self.state.cpu_seconds + self.usage.cpu_seconds()

    def stop(self) -> None:
        """Write the time so far into the state."""
        self.state.seconds, self.state.cpu_seconds = self.seconds(), self.cpu_seconds()
        self.usage.reset()

    def progress(self) -> float:
        """Share of the run that is done, in steps or minutes, whichever is further on."""
        share = self.state.step / self.total_steps
        if self.settings.minutes is None:
            return share
        return max(share, self.seconds() / max(self.state.budget_seconds, 1e-9))

    def set_budget(self) -> None:
        """Set the training time at which the budget ends, leaving time for scoring and the report."""
        if self.settings.minutes is None:
            return
        if self.budget is None:
            self.state.budget_seconds = self.state.budget_seconds or 60 * self.settings.minutes
        else:
            left = self.budget.for_training(self.scoring_seconds * self.num_scored)
            self.state.budget_seconds = self.seconds() + left

    def grant_least(self) -> None:
        """Train something even if start-up has used the budget up."""
        if self.budget is not None:
            self.state.budget_seconds = max(self.state.budget_seconds, self.seconds() + self.budget.least_s)

    def budget_left(self) -> float | None:
        """Seconds of training until the budget ends; None where there is none."""
        return None if self.settings.minutes is None else self.state.budget_seconds - self.seconds()

    def owes_a_step(self) -> bool:
        """Whether a budget given for this call still owes a step, however slow the start-up was."""
        return self.budget is not None and self.state.step == self._first_step

    def since_checkpoint(self) -> float:
        """Seconds since the last checkpoint, or since the run was made."""
        return time.monotonic() - self.checkpointed_at
