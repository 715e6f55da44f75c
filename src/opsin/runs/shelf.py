"""The runs of a folder: a line about each, and their removal.

A thousand runs are listed in less than a second: of each three small files are read, and nothing but their first level.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from opsin.errors import ConfigError, InputError, RunError
from opsin.io.files import read_json, remove_folder
from opsin.runs.lock import is_locked
from opsin.runs.names import RUNS_FOLDER, list_runs, other_runs
from opsin.runs.reader import CONFIG, SCORES, SUMMARY
from opsin.tasks import card_of, task_names
from opsin.types import JsonDict

CHECKPOINTS = "checkpoints"
FINISHED, TRAINING, UNFINISHED, DAMAGED = "finished", "training", "unfinished", "damaged"
"""States of a run; one that has ended has why in place of `FINISHED`, where it was not the number of epochs."""
SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """What a list says of a run.

    `state`: as `state_of` says it, or "damaged", where a file cannot be read. `score`: the main score on val with its
    name; NaN where there is none. `written`: seconds since 1970 at which its config was written.
    """

    name: str
    path: Path
    state: str
    data: str = ""
    task: str = ""
    model: str = ""
    epochs: int = 0
    score_name: str = ""
    score: float = math.nan
    seconds: float = math.nan
    written: float = 0.0

    def to_json(self) -> JsonDict:
        """As `--json` prints it."""
        return {**vars(self), "path": str(self.path)}


def rows(out: Path | str = RUNS_FOLDER) -> list[RunRow]:
    """A row for each run in `out`, oldest first.

    Raises:
        RunError: there is no such folder.
    """
    folder = Path(out)
    if not folder.is_dir():
        raise RunError("no folder of runs", where=folder, do="give --runs DIR; `opsin train DATA` makes one")
    return [row(folder / name) for name in list_runs(folder)]


def row(path: Path) -> RunRow:
    """What a list says of the run at `path`."""
    written = (path / CONFIG).stat().st_mtime
    try:
        config, summary, scores = (_object(path / file) for file in (CONFIG, SUMMARY, SCORES))
    except (InputError, OSError, TypeError):
        return RunRow(name=path.name, path=path, state=DAMAGED, written=written)
    task = str(summary.get("task") or config.get("task") or "")
    name, score = _main_score(scores, task)
    return RunRow(
        name=path.name,
        path=path,
        state=state_of(path, str(summary.get("stopped") or FINISHED) if summary else None),
        data=str(summary.get("data") or Path(str(config.get("source", ""))).name),
        task=task,
        model=str(summary.get("model") or _group(config, "model").get("model", "")),
        epochs=_whole(summary.get("epochs")),
        score_name=name,
        score=score,
        seconds=_number(summary.get("seconds")),
        written=written,
    )


def state_of(path: Path, ended: str | None) -> str:
    """Whether a process trains the run at `path` ("training"), `--resume` goes on with it ("unfinished"), or `ended`.

    Args:
        path: its folder.
        ended: why training ended, as the summary says it; None where there is no summary.
    """
    if is_locked(path):
        return TRAINING
    return UNFINISHED if ended is None else ended


def has_ended(state: str) -> bool:
    """Whether a state is that of a run that was trained to its end.

    >>> has_ended("early"), has_ended("unfinished")
    (True, False)
    """
    return state not in (TRAINING, UNFINISHED, DAMAGED)


def named(names: Sequence[str], out: Path | str = RUNS_FOLDER) -> list[Path]:
    """The runs of these names in `out`, ready to be removed.

    Raises:
        RunError: a name leads out of the folder, is no run, or a process trains it.
    """
    folder = Path(out)
    found = []
    for name in names:
        path = folder / name
        if path.is_symlink() or path.resolve().parent != folder.resolve():
            do = "name it as `opsin runs list` does, and its folder by --runs"
            raise RunError("this is no run of the folder; nothing was removed", where=folder, got=name, do=do)
        if not (path / CONFIG).is_file():
            raise RunError("no run here; nothing was removed", where=path, do=other_runs(path))
        if is_locked(path):
            raise RunError("a process is training this run; nothing was removed", where=path, do="stop it first")
        found.append(path)
    return found


def to_prune(
    out: Path | str = RUNS_FOLDER, *, unfinished: bool = False, older_than_days: float | None = None
) -> list[RunRow]:
    """Runs of `out` that fit all that is asked, and that no process trains; oldest first.

    Raises:
        ConfigError: nothing is asked, or a number of days below 0.
    """
    if not unfinished and older_than_days is None:
        raise ConfigError("prune what?", expected="--unfinished, --older-than DAYS, or both")
    if older_than_days is not None and not 0 <= older_than_days < math.inf:
        raise ConfigError("setting `older_than` is out of range", got=older_than_days, expected="0 or more")
    latest = math.inf if older_than_days is None else time.time() - SECONDS_A_DAY * older_than_days
    states = (UNFINISHED,) if unfinished else None
    return [
        found
        for found in rows(out)
        if found.state != TRAINING and (states is None or found.state in states) and found.written <= latest
    ]


def remove(paths: Iterable[Path], *, checkpoints_only: bool = False) -> int:
    """Remove runs, or their checkpoints alone; returns the bytes that their files held.

    Raises:
        WriteError: a folder cannot be removed; those before it were.
    """
    freed = 0
    for path in paths:
        target = path / CHECKPOINTS if checkpoints_only else path
        freed += size_bytes(target)
        remove_folder(target)
    return freed


def size_bytes(path: Path) -> int:
    """Bytes of all files in a folder; 0 where there is none."""
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())


def _main_score(scores: JsonDict, task: str) -> tuple[str, float]:
    """Name and value of the main score on val."""
    if task not in task_names():
        return "", math.nan
    name = card_of(task).main_score
    value = _group(_group(scores, "val"), "scores").get(name)
    return name, _number(value.get("value") if isinstance(value, dict) else value)


def _object(path: Path) -> JsonDict:
    """A JSON object; empty where there is no file.

    Raises:
        TypeError: it is none.
    """
    value = read_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise TypeError(path)
    return value


def _group(values: JsonDict, name: str) -> JsonDict:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
