"""The epoch lines of a training on the terminal or in a log: one per epoch, fewer where there are many epochs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from opsin.progress import duration

FEW_EPOCHS = 30
"""Up to this number of epochs each gets a line."""
FIRST_EPOCHS = 10
"""With more epochs, the number of first ones that each get a line; then the interval between lines grows."""
GROWTH = 1.3
"""Ratio of the epoch numbers of successive lines."""
SLOW_S = 10.0
"""Seconds without a line after which the next epoch gets one in any case."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """The values of one epoch line.

    `minutes`: training time since the run began. `seconds`: that of this epoch, scoring included. `val_score`: the
    task's main score on val, None without a val split. `best`: whether no epoch before had a better one.
    """

    epoch: int
    minutes: float
    seconds: float
    loss: float
    val_score: float | None
    best: bool


class EpochLines:
    """Chooses the epochs that get a line, and writes it in columns.

    Args:
        write: takes a line.
        num_epochs: epochs of the whole run, at most.
        budget_minutes: with a budget in minutes the number of epochs is unknown, and minutes are shown instead.
        score_title: name of the score on val.
    """

    def __init__(
        self, write: Callable[[str], None], *, num_epochs: int, budget_minutes: float | None, score_title: str
    ) -> None:
        self.write = write
        self.num_epochs, self.budget_minutes, self.score_title = num_epochs, budget_minutes, score_title
        self._untold: dict[int, EpochResult] = {}
        """The last epoch and the best one, where they have had no line."""
        self._due = 1.0
        self._written_at = time.monotonic()

    def epoch(self, result: EpochResult) -> None:
        """Count an epoch that has ended."""
        self._untold = {epoch: kept for epoch, kept in self._untold.items() if kept.best and not result.best}
        self._untold[result.epoch] = result
        if self._is_due(result.epoch):
            self._write(result)

    def close(self) -> None:
        """Write the best and the last epoch, where they have had no line."""
        for result in list(self._untold.values()):
            self._write(result)

    def _is_due(self, epoch: int) -> bool:
        all_told = self.budget_minutes is None and self.num_epochs <= FEW_EPOCHS
        slow = time.monotonic() - self._written_at >= SLOW_S
        return all_told or slow or epoch >= self._due

    def _write(self, result: EpochResult) -> None:
        self.write(self.line(result))
        if result.best:
            self._untold.clear()  # an earlier best epoch is superseded
        self._untold.pop(result.epoch, None)
        self._due = result.epoch + 1 if result.epoch < FIRST_EPOCHS else result.epoch * GROWTH
        self._written_at = time.monotonic()

    def line(self, result: EpochResult) -> str:
        """The line of an epoch; lines of one run have aligned columns."""
        val = "" if result.val_score is None else f"val {self.score_title} {result.val_score:.4f}"
        columns = (
            self._place(result),
            f"loss {result.loss:7.4f}",
            *([f"{val}  {'best' if result.best else '':<4}"] if val else []),
            f"{duration(result.seconds):>8}",
        )
        return "  ".join(columns)

    def _place(self, result: EpochResult) -> str:
        if self.budget_minutes is None:
            width = len(str(self.num_epochs))
            return f"epoch {result.epoch:>{width}} of {self.num_epochs}"
        whole = f"{self.budget_minutes:g}"
        used = f"{result.minutes:.1f}" if self.budget_minutes >= 1 else f"{result.minutes:.2f}"
        return f"epoch {result.epoch:>3}  {used:>{len(whole) + 2}} of {whole} min"
