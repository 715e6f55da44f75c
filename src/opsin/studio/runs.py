"""The runs that the studio shows: what their folders say, read anew when a file has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from opsin.errors import OpsinError
from opsin.io.temporary import is_temporary
from opsin.report.formats import is_number
from opsin.runs import Run, dataset_of, list_runs
from opsin.runs.reader import CONFIG
from opsin.runs.shelf import DAMAGED, FINISHED, TRAINING, has_ended, state_of
from opsin.server.refusal import RequestError
from opsin.tasks.cards import main_score, score_kind
from opsin.types import Score

if TYPE_CHECKING:
    from opsin.data.samples import Dataset

WATCHED = ("config.json", "log.jsonl", "summary.json", "scores.json")
"""Files on which the row of a run depends."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in a list. `score` is the best of val in the log until the run has been scored; `state` as `runs.shelf`."""

    name: str
    state: str
    data: str = ""
    task: str = ""
    model: str = ""
    epochs: int = 0
    seconds: float | None = None
    score_name: str = ""
    score: Score | None = None
    split: str = ""
    note: str = ""

    @property
    def ended(self) -> bool:
        """Whether it was trained to its end."""
        return has_ended(self.state)


class RunShelf:
    """The runs in a folder, newest first.

    Args:
        folder: of run folders; it may not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, tuple[object, Row]] = {}
        self._data: dict[str, Dataset] = {}
        self._loading: dict[str, Lock] = {}
        self._lock = Lock()

    def names(self) -> list[str]:
        """Names of all runs, newest first."""
        return list_runs(self.folder)[::-1]

    def get(self, name: str) -> Run:
        """The run of this name: one of the list, so that no name leads out of the folder.

        Raises:
            RequestError: 404, there is none.
        """
        if not self.has(name):
            raise RequestError(404, "no such run", got=name[:100])
        return Run(self.folder / name)

    def has(self, name: str) -> bool:
        """Whether `names` has this one; without a look at the others."""
        listed = self.folder.is_dir() and any(path.name == name for path in self.folder.iterdir())
        return listed and not is_temporary(name) and (self.folder / name / CONFIG).is_file()

    def row(self, name: str) -> Row:
        """What a list shows of a run; a damaged one is shown as such."""
        stamp = _stamp(self.folder / name)
        known = self._rows.get(name)
        if known is None or known[0] != stamp or known[1].state == TRAINING:
            known = (stamp, _row(Run(self.folder / name)))
            self._rows[name] = known
        return known[1]

    def dataset(self, name: str) -> Dataset:
        """The data that a run was trained on, unchanged; looked for once, while those of other runs can be asked for.

        Raises:
            DataError: it is not there, or it has changed.
        """
        run = self.get(name)
        with self._lock:
            loading = self._loading.setdefault(name, Lock())
        with loading:
            if name not in self._data:
                self._data[name] = dataset_of(run)
            return self._data[name]

    def state(self, name: str) -> str:
        """Whether a run is being trained, is unfinished, or why it has ended."""
        return state_of_run(Run(self.folder / name))


def state_of_run(run: Run) -> str:
    """The state of a run, as its summary says it."""
    return state_of(run.path, (run.summary.stopped or FINISHED) if run.summary else None)


def _row(run: Run) -> Row:
    try:
        return _read(run)
    except OpsinError as error:
        return Row(name=run.name, state=DAMAGED, note=error.what)


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
        state=state_of_run(run),
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
