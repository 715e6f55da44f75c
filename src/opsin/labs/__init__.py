"""The course experiments: each one a file that is read like a notebook, and one command.

opsin.labs.names()
found = opsin.labs.run("convolution")
found.answers[0].answer
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from opsin.errors import ConfigError, nearest
from opsin.labs.running import AllResults as AllResults
from opsin.labs.running import LabResult as LabResult
from opsin.labs.running import run_book, run_labs

if TYPE_CHECKING:
    from opsin.labs.exercises import Checked
    from opsin.labs.lab import Book, Lab
    from opsin.labs.plans import LabForecast

LABS_FOLDER = Path("labs")
COURSE = (
    "convolution",
    "device",
    "cifar10-dense-and-cnn",
    "cifar10-cnn",
    "cifar10-training",
    "mnist",
    "mnist-localization",
    "cifar100-transfer",
    "cifar100-from-scratch",
    "segmentation",
    "flowers-transfer",
    "cifar10-transfer",
    "sizes-and-memory",
    "architectures",
    "pretrained-photos",
)
"""The experiments in the order of the courses; a lab's file has its name, with underscores."""
HOMES = {name: f"opsin.labs.{name.replace('-', '_')}" for name in COURSE}
"""Where each lab lives; a file is imported when its lab is asked for."""


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

    return Book(get(name), folder=folder_of(name, quick=quick, out=out), quick=quick, root=root, quiet=quiet)


def folder_of(name: str, *, quick: bool, out: Path | str = LABS_FOLDER) -> Path:
    """Where the runs and the report of a lab lie."""
    return Path(out) / f"{name}-{'quick' if quick else 'full'}"


def run(
    name: str,
    *,
    quick: bool = True,
    root: str | None = None,
    out: Path | str = LABS_FOLDER,
    minutes: float | None = None,
    quiet: bool = True,
) -> LabResult:
    """Run a lab: train, measure, answer its questions, and write its report.

    Finished runs are not trained again, so that a lab that was killed goes on.

    Args:
        name: one of `names()`.
        quick: embedded data and few epochs, without download; else the data that the course uses.
        root: folder of the catalogue's data sets.
        out: folder of labs; this one takes NAME-quick or NAME-full in it.
        minutes: of the whole lab: its runs share what is left of them, and end earlier where that is too little.
        quiet: no progress.

    Raises:
        ConfigError: no such lab.
        CheckFailedError: an answer is not shown by its evidence.
    """
    return run_book(open_book(name, quick=quick, root=root, out=out), minutes=minutes, quiet=quiet)


def forecast(name: str, *, quick: bool = True, root: str | None = None) -> LabForecast:
    """How long the trainings of a lab would take on this machine, at the speed of a few steps measured now.

    Args:
        name, quick, root: as for `run`.

    Raises:
        RefusedError: no such lab, or its data are not there.
    """
    from tempfile import TemporaryDirectory

    from opsin.labs.plans import forecast as forecast_of

    with TemporaryDirectory() as folder:
        return forecast_of(open_book(name, quick=quick, root=root, out=folder))


def run_all(
    *,
    quick: bool = True,
    root: str | None = None,
    out: Path | str = LABS_FOLDER,
    minutes: float | None = None,
    quiet: bool = True,
) -> AllResults:
    """Run every lab, one report each, and write `index.html` beside them; one that fails does not stop the others.

    Args:
        quick, root, out, quiet: as for `run`.
        minutes: of all labs together, shared by what they took when they were measured.
    """
    books = [open_book(name, quick=quick, root=root, out=out) for name in names()]
    return run_labs(books, out=Path(out), minutes=minutes, quiet=quiet)


def notebook(name: str, path: Path | str) -> Path:
    """Write a lab as a notebook (.ipynb) that asks its questions one by one, quick.

    Raises:
        ConfigError: no such lab.
    """
    from opsin.labs.cells import write_notebook

    return write_notebook(get(name), HOMES[name], Path(path))


def exercise(name: str, folder: Path | str, *, quick: bool = True, root: str | None = None) -> Path:
    """Write a lab as an exercise: `NAME.ipynb` with the questions and the scaffold, without the answers.

    Raises:
        ConfigError: no such lab.
    """
    from opsin.labs.exercises import write_exercise

    return write_exercise(get(name), HOMES[name], Path(folder), quick=quick, root=root)


def check(name: str, folder: Path | str, *, quick: bool = True, root: str | None = None) -> tuple[Checked, ...]:
    """Which answers of an exercise agree with what its own runs measured; it trains nothing.

    Raises:
        ConfigError: no such lab, or no answer was given.
    """
    from opsin.labs.exercises import check_answers

    book = open_book(name, quick=quick, root=root, out=folder)
    book.trains = False
    return check_answers(book)
