"""Opening the runs and model folders that verbs take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opsin.errors import RunError
from opsin.runs import RUNS_FOLDER, Run

AnyRun = Run | Path | str
"""A run, its folder, or its name."""


def opened_run(run: AnyRun, runs: Path | str = RUNS_FOLDER) -> Run:
    """The run itself; a folder, or a name in `runs`, is opened.

    Raises:
        RunError: no such run, or something else.
    """
    _check_is_run(run)
    return run if isinstance(run, Run) else Run.open(run, out=runs)


def _check_is_run(run: object) -> None:
    if not isinstance(run, Run | Path | str):
        do = "give several runs one by one: `*runs`" if isinstance(run, Sequence) else None
        raise RunError("not a run", got=type(run).__name__, expected="a run, its folder or its name", do=do)


def model_folder(run: AnyRun, out: Path | str = RUNS_FOLDER) -> Path:
    """The model folder of a run, or `run` itself where it is a model folder."""
    if not isinstance(run, Run) and (Path(run) / "manifest.json").is_file():
        return Path(run)
    return opened_run(run, out).model_folder
