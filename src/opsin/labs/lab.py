"""What a lab is made of: questions and their answers, the tables and figures that these cite, and the book of one run.

A lab file holds functions that answer one question each, and names them in one `Lab`. `Book.ask` refuses an answer
without evidence, and one with a number that stands in none of the tables that it cites: answers are measured here,
never looked up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import opsin
from opsin.errors import CheckFailedError, RunError
from opsin.io.files import as_json, read_json, write_json
from opsin.report.formats import number, percent
from opsin.runs import Run
from opsin.types import Score

Cell: TypeAlias = Score | str | int | float | bool | None
"""A score is a share, shown as a percentage, with its interval where it has one; other numbers are as they are."""
NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")
"""A number in words; digits inside of a name, as in `conv2d`, are none."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells. `note`: what a reader must know of them."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def shown(self) -> list[list[str]]:
        """The rows as a page has them."""
        return [[shown(cell) for cell in row] for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: cells as numbers, and as they are shown."""
        rows = [[_plain(cell) for cell in row] for row in self.rows]
        about = {"name": self.name, "title": self.title, "columns": list(self.columns), "note": self.note}
        return about | {"rows": rows, "shown": self.shown}


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """Pictures with captions (uint8 [C, h, w]), or lines over epochs: `lines` are (epoch, value) by name."""

    name: str
    title: str
    pictures: tuple[tuple[str, NDArray[np.uint8]], ...] = ()
    lines: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    share: bool = False


Evidence: TypeAlias = Table | Figure | Run


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a question's function found.

    Attributes:
        answer: as text, with numbers of the tables in `evidence` alone.
        ours: the figure that stands beside the published one; "" where none is published.
        evidence: tables, figures and runs that show it.
        agrees: with the published figure; None where none is published or it cannot be compared.
        why: if it does not agree or cannot be compared: the reason, shown by the evidence.
    """

    answer: str
    evidence: tuple[Evidence, ...]
    ours: str = ""
    agrees: bool | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question of a lab with its answer; `evidence` are names of tables, figures and runs of the same report."""

    question: str
    answer: str
    evidence: tuple[str, ...]
    published: str
    ours: str
    agrees: bool | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "evidence": list(self.evidence)}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, what was published (with its source), and the function that measures it."""

    text: str
    measure: Callable[[Book], Found]
    published: str = ""


def question(text: str, *, published: str = "") -> Callable[[Callable[[Book], Found]], Question]:
    """Make a function that measures into a question of a lab.

    Args:
        text: what is asked.
        published: what the course gives as the answer; "" where it gives none.
    """
    return lambda measure: Question(text=text, measure=measure, published=published)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A course experiment.

    Attributes:
        name: as the command line takes it.
        title: of its report.
        words: what it is about, in a sentence or two.
        needs: the data of the full form; the quick form needs none.
        minutes: what quick and full took on two quiet cores.
        questions: in the order in which one would tell it.
    """

    name: str
    title: str
    words: str
    questions: tuple[Question, ...]
    needs: str = "nothing"
    minutes: tuple[float, float] = (1.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        asked = [{"question": part.text, "published": part.published} for part in self.questions]
        about = {"lab": self.name, "title": self.title, "words": self.words, "needs": self.needs}
        return about | {"minutes": {"quick": self.minutes[0], "full": self.minutes[1]}, "questions": asked}


class Book:
    """One run of a lab: what it may use, and all that it has found so far.

    Args:
        lab: which.
        folder: where its runs and its report lie.
        quick: small or embedded data, and few epochs.
        root: folder of the catalogue's data sets.
        quiet: no progress of single trainings.
    """

    def __init__(
        self, lab: Lab, *, folder: Path, quick: bool = True, root: str | None = None, quiet: bool = True
    ) -> None:
        self.lab, self.folder, self.quick, self.root, self.quiet = lab, folder, quick, root, quiet
        self.runs: dict[str, Run] = {}
        self.tables: dict[str, Table] = {}
        self.figures: dict[str, Figure] = {}

    def train(self, data: str, *, name: str, **settings: Any) -> Run:
        """A run of that name: as it is if it has finished, resumed if it was killed, else trained now.

        Raises:
            RunError: the run that is there was asked for other data or settings.
        """
        if name in self.runs:
            return self.runs[name]
        asked = {"data": data, "root": self.root, **as_json(settings)}
        path = self.folder / "runs" / name
        note = path.with_name(f"{name}.asked.json")
        begun = (path / "config.json").is_file()
        if begun and (before := read_json(note) if note.is_file() else {}) != asked:
            do = "give another --out, or remove the folder"
            raise RunError("this run was asked for something else", where=path, got=before, expected=asked, do=do)
        if not (path / "scores.json").is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(note, asked)
            opsin.train(
                data,
                root=self.root,
                name=name,
                out=path.parent,
                resume=begun,
                quiet=self.quiet,
                command=f"opsin lab run {self.lab.name}",
                report=not self.quick,
                **settings,
            )
        self.runs[name] = Run(path)
        return self.runs[name]

    def table(
        self, name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = ""
    ) -> Table:
        """A table of the report."""
        cells = tuple(tuple(row) for row in rows)
        self.tables[name] = Table(name=name, title=title, columns=tuple(columns), rows=cells, note=note)
        return self.tables[name]

    def pictures(self, name: str, title: str, pictures: Sequence[tuple[str, NDArray[np.uint8]]]) -> Figure:
        """A figure of pictures, each with its caption: uint8 [C, h, w], RGB or grey."""
        self.figures[name] = Figure(name=name, title=title, pictures=tuple(pictures))
        return self.figures[name]

    def curves(self, name: str, title: str, runs: Mapping[str, Run], score: str) -> Figure:
        """A figure of how a score of val went over the epochs of some runs."""
        lines = {label: tuple(_curve(run, score)) for label, run in runs.items()}
        share = not score.endswith("loss")
        self.figures[name] = Figure(name=name, title=title, lines=lines, share=share)
        return self.figures[name]

    def ask(self, asked: Question) -> Answer:
        """Measure, and check the answer against its evidence.

        Raises:
            CheckFailedError: there is no evidence, or a number that it does not hold, or a disagreement without reason.
        """
        found = asked.measure(self)
        _check(asked, found)
        names = tuple(_name_of(part) for part in found.evidence)
        return Answer(
            question=asked.text,
            answer=found.answer,
            evidence=names,
            published=asked.published,
            ours=found.ours,
            agrees=found.agrees,
            why=found.why,
        )


def parameters_of(run: Run) -> int:
    """Parameters of a run's network, from the layers of its plan."""
    return opsin.plan(run.path, timed=False).layers.parameters


def shown(cell: Cell) -> str:
    """A cell as a page has it.

    >>> shown(Score(0.9833, 0.961, 0.994)), shown(9027000), shown(0.000123456)
    ('98.3 % [96.1, 99.4]', '9,027,000', '0.0001235')
    """
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Score):
        return number(cell, 4)
    if math.isnan(cell.low):
        return percent(cell.value)
    return f"{percent(cell.value)} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def numbers_in(text: str) -> set[str]:
    """Numbers that stand in a text, as they are written.

    >>> sorted(numbers_in("Conv2D gives 98.3 % of 1,797."))
    ['1,797', '98.3']
    """
    return set(NUMBER.findall(text))


def _check(asked: Question, found: Found) -> None:
    """Refuse what is not shown."""
    where = f"answer to {asked.text!r}"
    if not found.evidence:
        raise CheckFailedError("an answer without evidence", where=where, do="cite a table, a figure or a run")
    known = numbers_in(f"{asked.text} {asked.published}")
    for part in found.evidence:
        known |= numbers_in(_words_of(part)) if isinstance(part, Table) else set()
    if missing := numbers_in(f"{found.answer} {found.ours} {found.why}") - known:
        expected = "numbers of the tables in its evidence"
        raise CheckFailedError("a number that is not measured", where=where, got=sorted(missing), expected=expected)
    if asked.published and found.agrees is not True and not found.why:
        raise CheckFailedError(
            "the answer differs from the published one without a reason", where=where, do="give `why`"
        )


def _words_of(table: Table) -> str:
    cells = [cell for row in table.shown for cell in row]
    return " ".join([table.title, *table.columns, *cells, table.note])


def _name_of(part: Evidence) -> str:
    if isinstance(part, Table):
        return f"table {part.name}"
    return f"figure {part.name}" if isinstance(part, Figure) else f"run {part.name}"


def _curve(run: Run, score: str) -> list[tuple[float, float]]:
    return [(float(epoch.epoch), float(epoch.val[score])) for epoch in run.epochs]


def _plain(cell: Cell) -> Any:
    return as_json(vars(cell)) if isinstance(cell, Score) else as_json(cell)
