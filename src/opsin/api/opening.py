"""The runs and model folders that verbs are asked about."""

from __future__ import annotations

from pathlib import Path

from opsin.runs import RUNS_FOLDER, Run

AnyRun = Run | Path | str
"""A run, its folder, or its name among the runs."""


def opened_run(run: AnyRun, runs: Path | str = RUNS_FOLDER) -> Run:
    """The run itself, opened where it is a folder or a name in `runs`.

    Raises:
        RunError: there is none.
    """
    return run if isinstance(run, Run) else Run.open(run, out=runs)


def model_folder(run: AnyRun, out: Path | str = RUNS_FOLDER) -> Path:
    """The model of a run, or the folder itself where it is one."""
    if not isinstance(run, Run) and (Path(run) / "manifest.json").is_file():
        return Path(run)
    return opened_run(run, out).model_folder
