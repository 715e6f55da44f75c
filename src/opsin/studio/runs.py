"""The runs that the studio shows: what their folders say, read anew when a file has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from opsin.errors import OpsinError
from opsin.report.formats import is_number
from opsin.runs import Run, dataset_of, list_runs
from opsin.runs.lock import is_locked
from opsin.server.refusal import RequestError
from opsin.tasks.cards import main_score, score_kind
from opsin.types import Score

if TYPE_CHECKING:
    from opsin.data.samples import Dataset

State = Literal["training", "finished", "stopped", "damaged"]
WATCHED = ("config.json", "log.jsonl", "summary.json", "scores.json")
"""Files on which the row of a run depends."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in a list. `score` is the best of val in the log until the run has been scored."""

    name: str
    state: State
    data: str = ""
    task: str = ""
    model: str = ""
    epochs: int = 0
    seconds: float | None = None
    score_name: str = ""
    score: Score | None = None
    split: str = ""
    note: str = ""


class RunShelf:
    """The runs in a folder, newest first.

    Args:
        folder: of run folders; it may not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, tuple[object, Row]] = {}
        self._data: dict[str, Dataset] = {}
        self._lock = Lock()

    def names(self) -> list[str]:
        """Names of all runs, newest first."""
        return list_runs(self.folder)[::-1]

    def get(self, name: str) -> Run:
        """The run of this name: one of the list, so that no name leads out of the folder.

        Raises:
            RequestError: 404, there is none.
        """
        if name not in self.names():
            raise RequestError(404, "no such run", got=name[:100])
        return Run(self.folder / name)

    def row(self, name: str) -> Row:
        """What a list shows of a run; a damaged one is shown as such."""
        stamp = _stamp(self.folder / name)
        known = self._rows.get(name)
        if known is None or known[0] != stamp or known[1].state == "training":
            known = (stamp, _row(Run(self.folder / name)))
            self._rows[name] = known
        return known[1]

    def dataset(self, name: str) -> Dataset:
        """The data that a run was trained on, unchanged; looked for once.

        Raises:
            DataError: it is not there, or it has changed.
        """
        with self._lock:
            if name not in self._data:
                self._data[name] = dataset_of(self.get(name))
            return self._data[name]

    def state(self, name: str) -> State:
        """Whether a run is being trained, has finished, or was stopped."""
        return state_of(Run(self.folder / name))


def state_of(run: Run) -> State:
    """Whether a run is being trained, has finished, or was stopped before it could."""
    if is_locked(run.path):
        return "training"
    return "finished" if run.summary and run.scores else "stopped"


def _row(run: Run) -> Row:
    try:
        return _read(run)
    except OpsinError as error:
        return Row(name=run.name, state="damaged", note=error.what)


def _read(run: Run) -> Row:
    data, summary, epochs = run.data, run.summary, run.epochs
    # the settings are read where the rest does not tell: they take longest, and a list has many runs
    config = None if data.name and summary.model and (summary.task or data.task) else run.config
    task = str(summary.task or data.task or (config.task if config else "") or "")
    key = main_score(task)
    scores: Mapping[str, Mapping[str, Score]] = run.scores
    split = next((name for name in ("test", "val") if name in scores and key in scores[name]), "")
    best = max((epoch.val[key] for epoch in epochs if is_number(epoch.val.get(key))), default=None)
    score = scores[split][key] if split else None if best is None else Score(best)
    return Row(
        name=run.name,
        state=state_of(run),
        data=str(data.name or (Path(config.source).name if config else "")),
        task=task,
        model=str(summary.model or (config.model.model if config else "")),
        epochs=len({epoch.epoch for epoch in epochs}),
        seconds=summary.seconds if summary.seconds is not None else epochs[-1].seconds if epochs else None,
        score_name=score_kind(task, key).title if key else "",
        score=score,
        split=split or ("val so far" if score else ""),
    )


def _stamp(folder: Path) -> object:
    """What changes when a file of the run does."""
    found: list[tuple[int, int] | None] = []
    for file in WATCHED:
        try:
            about = (folder / file).stat()
        except OSError:
            found.append(None)
        else:
            found.append((about.st_mtime_ns, about.st_size))
    return tuple(found)
