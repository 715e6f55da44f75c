"""One lab from its first question to its report, and all labs with their index."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsin.errors import InterruptedRunError, OpsinError

if TYPE_CHECKING:
    from opsin.labs.evidence import Figure, Table
    from opsin.labs.lab import Answer, Book
    from opsin.types import Score


@dataclass(frozen=True, kw_only=True, eq=False)
class LabResult:
    """What one run of a lab found.

    `runs`: folders of its runs. `report`: one HTML page. `seconds`: on the wall, without runs that had finished before.
    `cpu_seconds`: of all cores, of this process. `minutes`: the budget; None is none. `cut`: runs that a budget ended
    early, and the share of their steps that they were trained for.
    """

    lab: str
    quick: bool
    runs: tuple[Path, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    answers: tuple[Answer, ...]
    seconds: float
    cpu_seconds: float
    minutes: float | None
    cut: Mapping[str, Score]
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; figures by name and title alone."""
        return {
            "lab": self.lab,
            "quick": self.quick,
            "runs": [str(run) for run in self.runs],
            "tables": [table.to_dict() for table in self.tables],
            "figures": [{"name": figure.name, "title": figure.title} for figure in self.figures],
            "answers": [answer.to_dict() for answer in self.answers],
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
            "minutes": self.minutes,
            "cut": {name: share.value for name, share in self.cut.items()},
            "report": str(self.report),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class AllResults:
    """What a run of all labs found. `failures`: why, by lab. `index`: a page with a line for each. `seconds`: on the wall."""

    labs: tuple[LabResult, ...]
    failures: Mapping[str, str]
    seconds: float
    index: Path

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        found = [result.to_dict() for result in self.labs]
        about = {"seconds": round(self.seconds, 1), "index": str(self.index)}
        return {"labs": found, "failures": dict(self.failures)} | about


def run_book(book: Book, *, minutes: float | None = None, quiet: bool = True) -> LabResult:
    """Ask all questions of a lab, and write `report.html` and `lab.json` into its folder.

    Raises:
        CheckFailedError: an answer is not shown by its evidence.
    """
    from opsin.io.files import write_json
    from opsin.labs.pace import Pace
    from opsin.labs.plans import planned_runs
    from opsin.labs.report import write_lab_report
    from opsin.progress import Reporter

    began, cpu_began, report = time.monotonic(), time.process_time(), Reporter(quiet=quiet)
    lab, book.quiet = book.lab, True
    book.folder.mkdir(parents=True, exist_ok=True)
    book.pace = Pace(
        num_questions=len(lab.questions),
        num_runs=len(planned_runs(book)),
        folder=book.folder / "runs",
        minutes=minutes,
    )
    answers = []
    with report.bar(lab.name, book.pace.units, earlier=book.pace.units_earlier) as book.pace.bar:
        for place, question in enumerate(lab.questions, 1):
            report.message(f"{lab.name} {place}/{len(lab.questions)}: {question.text}")
            try:
                answers.append(book.ask(question))
            except InterruptedRunError as error:
                do = "the same command again goes on with the lab; finished runs are not trained again"
                raise InterruptedRunError(error.what, where=error.where, do=do) from error
            book.pace.question_answered()
    found = LabResult(
        lab=lab.name,
        quick=book.quick,
        runs=tuple(part.path for part in book.runs.values()),
        tables=tuple(book.tables.values()),
        figures=tuple(book.figures.values()),
        answers=tuple(answers),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu_began,
        minutes=minutes,
        cut=book.cut,
        report=book.folder / "report.html",
    )
    write_lab_report(lab, found)
    write_json(book.folder / "lab.json", found.to_dict())
    return found


def run_labs(books: Sequence[Book], *, out: Path, minutes: float | None = None, quiet: bool = True) -> AllResults:
    """Run labs one after the other and write `index.html`; one that fails does not stop the others.

    Args:
        books: of the labs.
        out: where the index is written.
        minutes: of all together; what one leaves over is shared by those that follow.
        quiet: no progress.
    """
    from opsin.labs.report import write_index
    from opsin.progress import Reporter

    began, report = time.monotonic(), Reporter(quiet=quiet)
    results, failures = [], {}
    for place, book in enumerate(books):
        weights = [_forecast(one) for one in books[place:]]
        left = None if minutes is None else max(minutes - (time.monotonic() - began) / 60, 0.1)
        share = None if left is None else left * weights[0] / sum(weights)
        report.message(f"lab {place + 1} of {len(books)}: {book.lab.name}, {_words_of(sum(weights))} to go")
        try:
            results.append(run_book(book, minutes=share, quiet=quiet))
        except InterruptedRunError:
            raise
        except OpsinError as error:
            failures[book.lab.name] = str(error)
            report.message(f"{book.lab.name} failed: {error}")
    seconds, index = time.monotonic() - began, out / "index.html"
    labs = [book.lab for book in books]
    write_index(index, labs, results, failures, seconds=seconds)
    return AllResults(labs=tuple(results), failures=failures, seconds=seconds, index=index)


def _forecast(book: Book) -> float:
    """Minutes that a lab took when it was measured; where it was not, one for each of its runs."""
    from opsin.labs.plans import planned_runs

    return book.lab.minutes[0 if book.quick else 1] or float(max(1, len(planned_runs(book))))


def _words_of(minutes: float) -> str:
    return f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"
