"""Which networks a lab trains, and how long they would take on this machine: nothing is trained or written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opsin.labs.lab import Book, Lab
from opsin.runs import Run

ALIKE = frozenset(
    {"seed", "open_test", "test_as_val", "box_loss", "class_weights", "unused_classes", "label_smoothing"}
)
ALIKE |= {"lr", "backbone_lr", "momentum", "rate_decay", "schedule", "warmup", "patience", "weights_range", "normalize"}
"""Settings that hardly change how long a step takes: runs that differ in them alone are timed once."""
STARTS = ("weights", "finetune", "head_start")
"""Settings that name a pretrained network, and which of its parts are trained."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run that a lab would train: its data and settings."""

    data: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LabForecast:
    """Seconds of each run of a lab on this machine, at the speed measured when it was asked for.

    `seconds`: by the run's name, from start to scores; what the lab measures on its runs afterwards is left out.
    """

    lab: str
    quick: bool
    seconds: Mapping[str, float]

    @property
    def minutes(self) -> float:
        """Of all runs, one after the other."""
        return sum(self.seconds.values()) / 60

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        runs = {name: round(value, 1) for name, value in self.seconds.items()}
        return {"quick": self.quick, "minutes": round(self.minutes, 1), "seconds": runs}


class PlanBook(Book):
    """A book that notes what would be trained, and trains nothing; `planned` has the runs by name."""

    def __init__(self, lab: Lab, *, folder: Path, quick: bool = True, root: str | None = None) -> None:
        super().__init__(lab, folder=folder, quick=quick, root=root, trains=False)
        self.planned: dict[str, PlannedRun] = {}

    def train(self, data: str, *, name: str, **settings: Any) -> Run:
        """Note the run; its folder is not looked at."""
        self.planned.setdefault(name, PlannedRun(data=data, settings=settings))
        return Run.at(self.folder / "runs" / name)

    def best(self, runs: Mapping[str, Run], score: str = "accuracy") -> str:
        """The first: none has a score yet."""
        return next(iter(runs))


def planned_runs(book: Book) -> dict[str, PlannedRun]:
    """The runs that a book's lab trains, by name, in the book's form."""
    plan = PlanBook(book.lab, folder=book.folder, quick=book.quick, root=book.root)
    if book.lab.networks is not None:
        book.lab.networks(plan)
    return plan.planned


def forecast(book: Book) -> LabForecast:
    """How long the runs of a lab would take here, from a few timed steps of each kind of network.

    Raises:
        RefusedError: the data are not there, or anything else that `opsin.train` refuses.
    """
    planned = planned_runs(book)
    by_path = {str(book.folder / "runs" / name): run for name, run in planned.items()}
    timed: dict[str, float] = {}
    seconds = {}
    for name, run in planned.items():
        settings = _from_scratch(run, by_path)
        kind = repr((run.data, sorted((key, repr(settings[key])) for key in settings if key not in ALIKE)))
        if kind not in timed:
            timed[kind] = _seconds(run.data, book.root, settings)
        seconds[name] = timed[kind]
    return LabForecast(lab=book.lab.name, quick=book.quick, seconds=seconds)


def _from_scratch(run: PlannedRun, by_path: Mapping[str, PlannedRun]) -> dict[str, Any]:
    """The settings of a run; where it starts from another of these runs, all of that one's network is trained."""
    source = by_path.get(str(run.settings.get("weights")))
    if source is None:
        return dict(run.settings)
    return {**source.settings, **{key: value for key, value in run.settings.items() if key not in STARTS}}


def _seconds(data: str, root: str | None, settings: Mapping[str, Any]) -> float:
    from opsin.api.training import dry_run

    return dry_run(data, root=root, **{key: value for key, value in settings.items() if key != "open_test"}).seconds
