"""What a lab is made of: questions with the functions that measure their answers, and the book of one run.

A lab file holds functions that answer one question each, and names them in one `Lab`. `Book.ask` refuses an answer
without evidence, and one with a number that stands in none of the tables that it cites: answers are measured here,
never looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import opsin
from opsin.errors import CheckFailedError, ConfigError, RunError, nearest
from opsin.io.files import as_json, read_json, write_json
from opsin.labs.evidence import Cell as Cell
from opsin.labs.evidence import Evidence as Evidence
from opsin.labs.evidence import Figure as Figure
from opsin.labs.evidence import Table as Table
from opsin.labs.evidence import name_of, numbers_in, shown
from opsin.labs.pace import Pace
from opsin.runs import Run

ANSWERS = "answers.json"
"""A student's answers, in the folder of a lab."""
IN_WORDS = "in words"
"""The one value that is asked for where a question names none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a question's function found.

    Attributes:
        answer: in words, with numbers of the question and of the tables in `evidence` alone.
        ours: the figure that stands beside the published one, of these tables alone; "" where none is published.
        evidence: tables, figures and runs that show it.
        agrees: with the published figure; None where none is published or it cannot be compared.
        above: it does not agree, and wherever it differs ours is the higher.
        why: if it does not agree or cannot be compared: the reason, shown by the evidence.
        values: what an exercise asks for, by the names in `Question.asks`.
    """

    answer: str
    evidence: tuple[Evidence, ...]
    ours: str = ""
    agrees: bool | None = None
    above: bool = False
    why: str = ""
    values: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question of a lab with its answer; `evidence` are names of tables, figures and runs of the same report."""

    question: str
    answer: str
    evidence: tuple[str, ...]
    published: str
    ours: str
    agrees: bool | None
    above: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "evidence": list(self.evidence)}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, what was published (with its source), and the function that measures it.

    `asks`: names of the values that a student fills in; without any, a student answers in words.
    """

    text: str
    measure: Callable[[Book], Found]
    published: str = ""
    asks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """That of the function."""
        return self.measure.__name__

    @property
    def blanks(self) -> tuple[str, ...]:
        """Names of what a student fills in."""
        return self.asks or (IN_WORDS,)


def question(
    text: str, *, published: str = "", asks: Sequence[str] = ()
) -> Callable[[Callable[[Book], Found]], Question]:
    """Make a function that measures into a question of a lab.

    Args:
        text: what is asked.
        published: what the course gives as the answer; "" where it gives none.
        asks: names of the values that a student fills in; `Found.values` has them.
    """
    return lambda measure: Question(text=text, measure=measure, published=published, asks=tuple(asks))


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A course experiment.

    Attributes:
        name: as the command line takes it.
        title: of its report.
        words: what it is about, in a sentence or two.
        needs: the data of the full form; the quick form needs none.
        minutes: what quick and full took where docs/labs/index.md says; None is not measured.
        networks: asks a book for every network that the lab trains, without reading any score; None trains none.
        questions: in the order in which one would tell it.
    """

    name: str
    title: str
    words: str
    questions: tuple[Question, ...]
    needs: str = "nothing"
    minutes: tuple[float | None, float | None] = (None, None)
    networks: Callable[[Book], object] | None = None

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
        pace: the clock of the whole lab, which may give each run a budget.
        trains: whether runs that are not there are trained; if not, they are refused.
    """

    def __init__(
        self,
        lab: Lab,
        *,
        folder: Path,
        quick: bool = True,
        root: str | None = None,
        quiet: bool = True,
        pace: Pace | None = None,
        trains: bool = True,
    ) -> None:
        self.lab, self.folder, self.quick, self.root, self.quiet = lab, folder.resolve(), quick, root, quiet
        self.pace, self.trains = pace, trains
        self.runs: dict[str, Run] = {}
        self.tables: dict[str, Table] = {}
        self.figures: dict[str, Figure] = {}

    def train(self, data: str, *, name: str, **settings: Any) -> Run:
        """A run of that name: as it is if it has finished, resumed if it was killed, else trained now.

        Raises:
            RunError: the run that is there was asked for other data or settings; or none may be trained.
        """
        if name in self.runs:
            return self.runs[name]
        path = self.folder / "runs" / name
        ended = (path / "scores.json").is_file()
        if self.trains:
            asked = {"data": data, "root": self.root, **as_json(settings)}
            begun = self._same_question(path, asked)
            if not ended:
                self._train(data, path, resume=begun, settings=settings)
        elif not ended:
            raise RunError(
                "this run is not there yet",
                where=path,
                do="train it in the notebook, by the functions above the question",
            )
        self.runs[name] = Run(path)
        return self.runs[name]

    def _same_question(self, path: Path, asked: dict[str, Any]) -> bool:
        """Whether the run was begun, with what was asked written beside it; a budget of minutes is no part of that."""
        note = path.with_name(f"{path.name}.asked.json")
        begun = (path / "config.json").is_file()
        if begun and (before := read_json(note) if note.is_file() else {}) != asked:
            do = "give another --out, or remove the folder"
            raise RunError("this run was asked for something else", where=path, got=before, expected=asked, do=do)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, asked)
        return begun

    def _train(self, data: str, path: Path, *, resume: bool, settings: dict[str, Any]) -> None:
        minutes = None if self.pace is None else self.pace.minutes_of_run()
        opsin.train(
            data,
            root=self.root,
            name=path.name,
            out=path.parent,
            resume=resume,
            quiet=self.quiet,
            command=f"opsin lab run {self.lab.name}",
            report=not self.quick,
            callbacks=[] if self.pace is None else [self.pace],
            **(settings if minutes is None else {**settings, "minutes": minutes}),
        )
        if self.pace is not None:
            self.pace.run_ended(path.name)

    def derived(self, name: str, make: Callable[..., Any]) -> Run:
        """A run that is made of others, e.g. converted: as it is if it is there, else made now.

        Args:
            name: of the run.
            make: takes `name` and `out`, and leaves that run, as `opsin.convert` and `opsin.ensemble` do.

        Raises:
            RunError: it is not there, and none may be made.
        """
        path = self.folder / "runs" / name
        if not (path / "config.json").is_file():
            if not self.trains:
                raise RunError(
                    "this run is not there yet",
                    where=path,
                    do="train it in the notebook, by the functions above the question",
                )
            make(name=name, out=path.parent)
        self.runs[name] = Run(path)
        return self.runs[name]

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """What was measured under that name when the lab ran first, as plain JSON values; else it is measured now.

        A time would differ at each reading: kept, the answers of one report rest on one measurement.

        Raises:
            RunError: it is not there, and nothing may be measured.
        """
        path = self.folder / "measured" / f"{'-'.join(re.findall(r'[a-z0-9]+', name.casefold()))}.json"
        if not path.is_file():
            if not self.trains:
                raise RunError("this was not measured yet", where=path, do="run the cells of the notebook")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"values": as_json(measure())})
        return read_json(path)["values"]

    def best(self, runs: Mapping[str, Run], score: str = "accuracy") -> str:
        """What the run is called that has the highest score of val; the first of several."""
        return max(runs, key=lambda name: runs[name].scores["val"][score].value)

    @property
    def cut(self) -> dict[str, opsin.Score]:
        """The runs that a budget of minutes ended early, and the share of their steps that they were trained for."""
        shares = {name: _share_trained(run) for name, run in self.runs.items() if run.summary.stopped == "minutes"}
        return {name: opsin.Score(share) for name, share in shares.items() if share < 1}

    def answer(self, name: str, values: Mapping[str, Any]) -> None:
        """Write down a student's answer to the question of that name, for `opsin lab check`.

        Args:
            name: of the question, as the exercise gives it.
            values: by the names that the exercise gives; None is not answered.

        Raises:
            ConfigError: no such question, or other names.
        """
        by_name = {asked.name: asked for asked in self.lab.questions}
        if name not in by_name:
            close = nearest(name, list(by_name))
            do = f"did you mean `{close}`?" if close else "see the notebook"
            raise ConfigError("no such question", where=self.lab.name, got=name, expected=", ".join(by_name), do=do)
        blanks = by_name[name].blanks
        if unknown := [key for key in values if key not in blanks]:
            raise ConfigError(
                "this question asks for other values", where=name, got=unknown, expected=", ".join(blanks)
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / ANSWERS
        given = read_json(path) if path.is_file() else {}
        write_json(path, {**given, name: {key: _plain(value) for key, value in values.items()}})

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
        names = tuple(name_of(part) for part in found.evidence)
        return Answer(
            question=asked.text,
            answer=found.answer,
            evidence=names,
            published=asked.published,
            ours=found.ours,
            agrees=found.agrees,
            above=found.above,
            why=found.why,
        )


def _check(asked: Question, found: Found) -> None:
    """Refuse what is not shown."""
    where = f"answer to {asked.text!r}"
    if not found.evidence:
        raise CheckFailedError("an answer without evidence", where=where, do="cite a table, a figure or a run")
    measured: set[str] = set().union(*(part.measured for part in found.evidence if isinstance(part, Table)))
    quoted = numbers_in(asked.text)
    values = " ".join(shown(value) for value in found.values.values())
    missing = numbers_in(f"{found.ours} {values}") - measured
    missing |= numbers_in(found.answer) - measured - quoted
    missing |= numbers_in(found.why) - measured - quoted - numbers_in(asked.published)
    if missing:
        expected = "numbers of the tables in its evidence, those of published columns left out"
        raise CheckFailedError("a number that is not measured", where=where, got=sorted(missing), expected=expected)
    if asked.asks and set(found.values) != set(asked.asks):
        got, expected = sorted(found.values), ", ".join(asked.asks)
        raise CheckFailedError("values other than the exercise asks for", where=where, got=got, expected=expected)
    if asked.published and found.agrees is not True and not found.why:
        raise CheckFailedError(
            "the answer differs from the published one without a reason", where=where, do="give `why`"
        )


def _plain(value: Any) -> Any:
    """A student's value as JSON has it: a score as its share, a number of numpy as Python's."""
    if isinstance(value, opsin.Score):
        return value.value
    return value.item() if hasattr(value, "item") else value


def _curve(run: Run, score: str) -> list[tuple[float, float]]:
    return [(float(epoch.epoch), float(epoch.val[score])) for epoch in run.epochs]


def _share_trained(run: Run) -> float:
    """Share of its steps that a run was trained for; 1 for one that is made of others."""
    start = next((event for event in run.log if event.event == "start"), None)
    if start is None:
        return 1.0
    steps = int(str(start["steps_per_epoch"])) * int(str(start["epochs"]))
    return (run.summary.step or 0) / max(steps, 1)
