"""Runs that differ step by step: what each step brings, paired over the same samples, and what the last one mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import opsin
from opsin.labs.lab import Book, Found, Table
from opsin.labs.measure import agreement, mistakes
from opsin.ops.intervals import Z_95

NOTE = "One seed a run; the interval of 95 % is over the samples of val, not over seeds."
MOST_DRAWS = 1000
"""Of configurations, some of which are the same."""
REPAIRED = ("the step that brings most", "its points on val")
"""What an exercise asks for where steps are compared."""
AFTER = ("on test, as published", "on test, with all repairs")
MISTAKEN = ("wrong on val",)
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


def in_points(changes: NDArray[np.float64]) -> tuple[str, str, str]:
    """The mean of changes, one a sample [N], times 100, and its normal interval of 95 %, with signs."""
    mean, half = float(changes.mean()), Z_95 * float(changes.std(ddof=1)) / len(changes) ** 0.5
    middle, low, high = (f"{100 * value:+.1f}" for value in (mean, mean - half, mean + half))
    return middle, low, high


def hits(run: opsin.Run, split: Literal["val", "test"]) -> NDArray[np.float64]:
    """1 for each image of a split that is classified rightly, else 0, in the order of their names: float64 [N]."""
    _, probabilities, labels = by_id(run, split)
    right: NDArray[np.float64] = (probabilities.argmax(1) == labels).astype(np.float64)
    return right


def by_id(
    run: opsin.Run, split: Literal["val", "test"] = "val"
) -> tuple[list[str], NDArray[np.float64], NDArray[np.int64]]:
    """Names of the images of a split in their order, probabilities [N, K] and labels [N]."""
    stored = run.predictions(split)
    order = np.argsort(stored["ids"])
    return stored["ids"][order].tolist(), stored["probabilities"][order], stored["labels"][order]


def most(table: Table) -> dict[str, str]:
    """The values of `REPAIRED`: which step of a table of steps brings most, and how many points."""
    row = max(table.shown[1:], key=lambda row: float(row[3]))
    return dict(zip(REPAIRED, (row[0], row[3]), strict=True))


def repairs(book: Book, runs: Mapping[str, opsin.Run], *, drawn: Sequence[str]) -> Found:
    """What each repair of a recipe brings; `drawn`: the steps whose curves are shown."""
    table = steps_table(book, "steps", "Each step less the one before, paired over val", runs)
    curves = book.curves("steps", "Accuracy on val", {step: runs[step] for step in drawn}, "accuracy")
    return Found(
        answer=f"Better: {told(table, 'better')}. Worse: {told(table, 'worse')}. For the others this many images and one seed "
        "show no difference.",
        evidence=(table, curves, *runs.values()),
        values=most(table),
    )


def before_and_after(book: Book, first: opsin.Run, last: opsin.Run, published: float) -> Found:
    """A recipe as published beside the same with all repairs, on images that nothing was chosen by."""
    runs = {"as published": first, "with all repairs": last}
    table = steps_table(book, "after", "Before and after, paired over val", runs)
    score = last.scores["test"]["accuracy"]
    verdict = agreement(book, [(score, published)])
    if verdict.get("above"):
        verdict["why"] = "Ours is above: its mistakes are repaired, one by one, in the table of steps."
    before, after = table.shown
    return Found(
        answer=f"{after[2]} of test, against {before[2]} before; on val {after[3]} points ({after[4]} to {after[5]}).",
        ours=after[2],
        evidence=(table, first, last),
        values=dict(zip(AFTER, (first.scores["test"]["accuracy"], score), strict=True)),
        **verdict,
    )


def still_mistaken(book: Book, run: opsin.Run) -> Found:
    """What a repaired network still mistakes."""
    wrong, of, pictures = mistakes(run, book.root)
    table = book.table("mistakes", "Mistakes on val", ("network", "wrong", "of"), [("with all repairs", wrong, of)])
    figure = book.pictures("mistaken", "The most confident mistakes: true class, and what it said", pictures)
    return Found(
        answer=f"{wrong} of {of} on val; the figure shows the most confident.",
        evidence=(table, figure, run),
        values={MISTAKEN[0]: wrong},
    )


def told(table: Table, verdict: str) -> str:
    """What the steps of a verdict bring, in words, e.g. "a smaller rate (+3.1 points)"; "none" without any."""
    rows = [row for row in table.shown[1:] if row[6] == verdict]
    return "; ".join(f"{row[0]} ({row[3]} points)" for row in rows) or "none"


def configurations(
    given: Mapping[str, Any], choices: Mapping[str, Sequence[Any]], num: int, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The given settings, and others whose values are drawn at random from `choices`: `num` in all, by their words.

    >>> list(configurations({"lr": 0.01, "filters": (16, 32)}, {"lr": [0.1], "filters": [(8,)]}, 2))
    ['lr 0.01, filters 16-32', 'lr 0.1, filters 8']
    """
    draw = np.random.default_rng(seed)
    found = {_words(given): dict(given)}
    for _ in range(MOST_DRAWS):
        if len(found) == num:
            break
        one = {name: values[int(draw.integers(len(values)))] for name, values in choices.items()}
        found.setdefault(_words(one), one)
    return found


def _words(settings: Mapping[str, Any]) -> str:
    texts = ("-".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" for value in settings.values())
    return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in zip(settings, texts, strict=True))
