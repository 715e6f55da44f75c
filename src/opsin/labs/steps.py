"""Runs that differ step by step, and the table of what each step brings: paired over the same samples of val."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import opsin
from opsin.labs.lab import Book, Table

NOTE = "One seed a run; the interval of 95 % is over the samples of val, not over seeds."
COLUMNS = ("run", "val", "test", "difference on val, points", "lowest", "highest", "shown")


def steps_table(
    book: Book, name: str, title: str, runs: Mapping[str, opsin.Run], *, against_first: bool = False
) -> Table:
    """A table of runs by what they are called: accuracy on val and test, and on val less that of the run before.

    Args:
        book: that the table is written into.
        name, title: of the table.
        runs: two or more, in order; those that did not open test have no score of it.
        against_first: differences from the first run, not from the run before.
    """
    labels, found = list(runs), list(runs.values())
    rows: list[tuple[object, ...]] = [(labels[0], *accuracies(found[0]), "–", "–", "–", "–")]
    for place, run in enumerate(found[1:], 1):
        rows.append((labels[place], *accuracies(run), *paired(found[0 if against_first else place - 1], run)))
    return book.table(name, title, COLUMNS, rows, NOTE)


def accuracies(run: opsin.Run) -> tuple[opsin.Score, opsin.Score | None]:
    """Accuracy on val, and on test where it was opened."""
    return run.scores["val"]["accuracy"], run.scores["test"]["accuracy"] if "test" in run.scores else None


def paired(a: opsin.Run, b: opsin.Run, *, split: Literal["val", "test"] = "val") -> tuple[str, str, str, str]:
    """Accuracy of `b` on a split less that of `a` in points, its interval, and what it shows."""
    pair = opsin.compare(a, b, split=split).pairs[0]
    verdict = "better" if pair.low > 0 else "worse" if pair.high < 0 else "no difference"
    difference, low, high = (f"{100 * value:+.1f}" for value in (pair.difference, pair.low, pair.high))
    return difference, low, high, verdict


def in_points(changes: NDArray[np.int64]) -> tuple[str, str, str]:
    """The mean of changes of -1, 0 or 1, one a sample [N], in points, and its normal interval of 95 %."""
    mean, half = float(changes.mean()), 1.96 * float(changes.std(ddof=1)) / len(changes) ** 0.5
    middle, low, high = (f"{100 * value:+.1f}" for value in (mean, mean - half, mean + half))
    return middle, low, high


def told(table: Table, verdict: str) -> str:
    """What the steps of a verdict bring, in words, e.g. "a smaller rate (+3.1 points)"; "none" without any."""
    rows = [row for row in table.shown[1:] if row[6] == verdict]
    return "; ".join(f"{row[0]} ({row[3]} points)" for row in rows) or "none"
