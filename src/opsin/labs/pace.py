"""How far a lab is, how much is left, and how many minutes its next run may take."""

from __future__ import annotations

import time
from pathlib import Path

from opsin.progress import Bar
from opsin.training.engine.hooks import Callback, EpochContext

RUN_UNITS = 20
"""A run counts as so many units of the bar, a question without its runs as one."""
FOR_RUNS = 0.9
"""Share of what is left of a budget that runs may take; the rest is for what is measured on them."""


class Pace(Callback):
    """The clock of one run of a lab; it looks on while networks are trained, and moves the bar.

    Args:
        num_questions: of the lab.
        num_runs: that the lab trains.
        folder: of its runs; those that have finished there need no more time.
        minutes: of the whole lab, from now; None is as long as it takes.
    """

    def __init__(self, *, num_questions: int, num_runs: int, folder: Path, minutes: float | None = None) -> None:
        self.num_questions, self.num_runs, self.minutes = num_questions, num_runs, minutes
        self.ended = {path.parent.name for path in folder.glob("*/scores.json")}
        self.earlier = len(self.ended)
        self.answered = 0
        self.bar: Bar | None = None
        self._began = time.monotonic()

    @property
    def units(self) -> int:
        """Units of work of the whole lab."""
        return self.num_questions + RUN_UNITS * max(self.num_runs, self.earlier)

    @property
    def units_earlier(self) -> int:
        """Units that were done before this process began."""
        return RUN_UNITS * self.earlier

    def minutes_left(self) -> float | None:
        """Of the budget, 0 or more; None without one."""
        return None if self.minutes is None else max(self.minutes - (time.monotonic() - self._began) / 60, 0.0)

    def minutes_of_run(self) -> float | None:
        """What the next run may take: an equal share of what is left for each that is to come; None without a budget."""
        if (left := self.minutes_left()) is None:
            return None
        return max(FOR_RUNS * left / max(self.num_runs - len(self.ended), 1), 0.01)

    def run_ended(self, name: str) -> None:
        """A run has finished."""
        self.ended.add(name)
        self._show()

    def question_answered(self) -> None:
        """A question has its answer."""
        self.answered += 1
        self._show()

    def on_epoch(self, epoch: EpochContext) -> None:
        """Move the bar by the share of the run that is done."""
        self._show(epoch.epoch / epoch.num_epochs)

    def _show(self, share_of_run: float = 0.0) -> None:
        if self.bar is not None:
            self.bar.at(min(self.answered + round(RUN_UNITS * (len(self.ended) + share_of_run)), self.units))
