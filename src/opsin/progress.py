"""Progress of long work, on stderr, with an estimate of what is left.

On a terminal (and in a notebook) a live bar below the messages; elsewhere plain lines that a log file can hold; nothing
when quiet.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opsin.text import printable_lines

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 15.0


@dataclass
class Bar:
    """One long task: `done` of `total` units.

    `budget_s`: seconds after which the work ends, finished or not. `earlier`: units done before it started.
    """

    title: str
    total: int
    reporter: Reporter
    budget_s: float | None = None
    earlier: int = 0
    done: int = 0
    note: str = ""
    rich_task: TaskID | None = None
    began: float = field(default_factory=lambda: time.monotonic())

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count `amount` more units; `note` is shown next to the bar."""
        self.at(self.done + amount, note)

    def at(self, done: int, note: str = "") -> None:
        """`done` units are finished."""
        self.done, self.note = done, note or self.note
        self.reporter.show(self)

    def share(self) -> float:
        """Share done, 0 to 1, in units or of the budget, whichever is larger."""
        shares = [self.done / self.total if self.total else 1.0]
        if self.budget_s is not None:
            shares.append((time.monotonic() - self.began) / self.budget_s if self.budget_s > 0 else 1.0)
        return min(max(shares), 1.0)

    def seconds_left(self) -> float | None:
        """Estimate of the remaining seconds, at most those of the budget; None while unknown."""
        elapsed, counted = time.monotonic() - self.began, self.done - self.earlier
        limits = [] if self.budget_s is None else [max(self.budget_s - elapsed, 0.0)]
        if counted > 0:
            limits.append(elapsed / counted * max(self.total - self.done, 0))
        return min(limits, default=None)


class Reporter:
    """Output of progress and messages."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = not quiet and (sys.stderr.isatty() or _in_notebook())
        self._rich: RichProgress | None = None
        self._line_at = -math.inf

    @contextmanager
    def bar(self, title: str, total: int, *, earlier: int = 0, budget_s: float | None = None) -> Iterator[Bar]:
        """A bar for `total` units of work, closed at the end of the block.

        Args:
            title: what is being done.
            total: units of work.
            earlier: units that are done already, e.g. before a resumption.
            budget_s: seconds after which the work ends, done or not.
        """
        bar = Bar(title, total, self, budget_s=budget_s, earlier=earlier, done=earlier)
        if not self.live:
            yield bar
            return
        with _rich_progress() as self._rich:
            bar.rich_task = self._rich.add_task(title, total=total, completed=earlier, count="", left="", note="")
            try:
                yield bar
            finally:
                self.show(bar)
        self._rich = None

    def message(self, text: str) -> None:
        """One line for the user; control characters in it are escaped."""
        if self.quiet:
            return
        self._line_at = time.monotonic()
        text = printable_lines(text)
        if self._rich is not None:
            self._rich.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def show(self, bar: Bar) -> None:
        """Draw `bar` in its current state now."""
        if self._rich is not None and bar.rich_task is not None:
            done = bar.share() * bar.total
            self._rich.update(
                bar.rich_task, completed=done, total=bar.total, count=_count(bar), left=_left(bar), note=bar.note
            )
        elif not self.quiet and time.monotonic() - max(bar.began, self._line_at) > SECONDS_BETWEEN_LINES:
            parts = (f"{bar.title}: {_count(bar)}", _left(bar), bar.note)
            self.message(", ".join(part for part in parts if part))


QUIET = Reporter(quiet=True)


def _count(bar: Bar) -> str:
    """Units done; for work with a budget, the share of it."""
    return f"{bar.done:,}/{bar.total:,}" if bar.budget_s is None else f"{bar.share():.0%}"


def _left(bar: Bar) -> str:
    seconds = bar.seconds_left()
    return "" if seconds is None else f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """Seconds as text.

    >>> duration(3725)
    '1 h 2 min'
    >>> duration(61)
    '1 min 1 s'
    >>> duration(0.25)
    '0.2 s'
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _rich_progress() -> RichProgress:
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from opsin.console import SafeConsole

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),  # rich's own estimate ignores the budget
        TextColumn("{task.fields[note]}", markup=False),
    )
    # a finished bar disappears: lasting information is a message
    return Progress(*columns, console=SafeConsole(stderr=True), transient=True)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; others may have imported the module too."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and bool(kernel.IPKernelApp.initialized())
