"""The course experiments: each one a file that is read like a notebook, and one command.

opsin.labs.names()
found = opsin.labs.run("convolution")
found.answers[0].answer
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsin.errors import ConfigError, nearest

if TYPE_CHECKING:
    from opsin.labs.lab import Answer, Book, Figure, Lab, Table

LABS_FOLDER = Path("labs")
HOMES = {
    "convolution": "opsin.labs.convolution",
    "cifar10-cnn": "opsin.labs.cifar10_cnn",
    "mnist": "opsin.labs.mnist",
    "mnist-localization": "opsin.labs.mnist_localization",
    "segmentation": "opsin.labs.segmentation",
    "sizes-and-memory": "opsin.labs.sizes_and_memory",
    "cifar10-dense-and-cnn": "opsin.labs.cifar10_dense_and_cnn",
    "flowers-transfer": "opsin.labs.flowers_transfer",
    "cifar10-transfer": "opsin.labs.cifar10_transfer",
    "cifar100-transfer": "opsin.labs.cifar100_transfer",
    "cifar100-from-scratch": "opsin.labs.cifar100_from_scratch",
}
"""Where each lab lives; a file is imported when its lab is asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabResult:
    """What one run of a lab found.

    `runs`: folders of its runs. `report`: one HTML page. `seconds`: on the wall, without runs that had finished before.
    """

    lab: str
    quick: bool
    runs: tuple[Path, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    answers: tuple[Answer, ...]
    seconds: float
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
            "report": str(self.report),
        }


def names() -> list[str]:
    """Names of the labs, in the order of the courses."""
    return list(HOMES)


def get(name: str) -> Lab:
    """A lab by name.

    Raises:
        ConfigError: there is none.
    """
    if name not in HOMES:
        close = nearest(name, list(HOMES))
        do = f"did you mean `{close}`?" if close else "`opsin lab list` shows them"
        raise ConfigError("no such lab", got=name, expected=", ".join(HOMES), do=do)
    lab: Lab = import_module(HOMES[name]).LAB
    return lab


def open_book(
    name: str, *, quick: bool = True, root: str | None = None, out: Path | str = LABS_FOLDER, quiet: bool = True
) -> Book:
    """The book of a lab, as a notebook asks its questions one by one."""
    from opsin.labs.lab import Book

    folder = Path(out) / f"{name}-{'quick' if quick else 'full'}"
    return Book(get(name), folder=folder, quick=quick, root=root, quiet=quiet)


def run(
    name: str, *, quick: bool = True, root: str | None = None, out: Path | str = LABS_FOLDER, quiet: bool = True
) -> LabResult:
    """Run a lab: train, measure, answer its questions, and write its report.

    Finished runs are not trained again, so that a lab that was killed goes on.

    Args:
        name: one of `names()`.
        quick: embedded data and few epochs, without download; else the data that the course uses.
        root: folder of the catalogue's data sets.
        out: folder of labs; this one takes NAME-quick or NAME-full in it.
        quiet: no progress.

    Raises:
        ConfigError: no such lab.
        CheckFailedError: an answer is not shown by its evidence.
    """
    from opsin.io.files import write_json
    from opsin.labs.report import write_lab_report
    from opsin.progress import Reporter

    began, report = time.monotonic(), Reporter(quiet=quiet)
    book = open_book(name, quick=quick, root=root, out=out, quiet=quiet)
    book.folder.mkdir(parents=True, exist_ok=True)
    answers = []
    for place, question in enumerate(book.lab.questions, 1):
        report.message(f"{name} {place}/{len(book.lab.questions)}: {question.text}")
        answers.append(book.ask(question))
    found = LabResult(
        lab=name,
        quick=quick,
        runs=tuple(part.path for part in book.runs.values()),
        tables=tuple(book.tables.values()),
        figures=tuple(book.figures.values()),
        answers=tuple(answers),
        seconds=time.monotonic() - began,
        report=book.folder / "report.html",
    )
    write_lab_report(book.lab, found)
    write_json(book.folder / "lab.json", found.to_dict())
    return found


def notebook(name: str, path: Path | str) -> Path:
    """Write a lab as a notebook (.ipynb) that asks its questions one by one, quick.

    Raises:
        ConfigError: no such lab.
    """
    from opsin.labs.notebook import write_notebook

    return write_notebook(get(name), HOMES[name], Path(path))
