"""The data of a run for its report, read once, with missing parts empty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opsin.config import to_dict
from opsin.diagnosis.card import RobustnessCard, read_cards
from opsin.diagnosis.case import case_of
from opsin.diagnosis.doctor import Diagnosis, examine, stored_diagnosis
from opsin.ledger import Looks
from opsin.report.formats import is_number
from opsin.runs import DataCard, Environment, Epoch, Log, Run, SplitScores, Summary, read_gallery
from opsin.score_notes import notes_of
from opsin.tasks.cards import main_score, score_kind
from opsin.types import JsonMapping, Score


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """The scores of one split, its name, and `notes`, the caveats of the main score."""

    name: str
    scores: SplitScores
    notes: tuple[str, ...] = ()

    @property
    def num_samples(self) -> int:
        """Number of scored samples."""
        return self.scores.n

    @property
    def details(self) -> JsonMapping:
        """The task's details, plain JSON."""
        return self.scores.details


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """An event of the log, and the number of the last finished epoch before it."""

    event: str
    after_epoch: int
    message: str | None = None
    time: str | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """The data of a run for its report. Parts not written yet are empty.

    `epochs` holds the log's epochs in order, each once; `events` everything else.
    `diagnosis` is what the doctor left, else what the files alone tell; `cards` are robustness cards.
    `results` holds the splits that were scored, test first. `gallery` holds uint8 arrays `[n, C, h, w]`.
    `forecast`: event of the log, made before the first step; empty where nothing was forecast.
    `looks`: at the test split, over all runs; None where this run has not looked, or they were not counted.
    """

    name: str
    folder: str
    task: str
    classes: tuple[str, ...]
    config: JsonMapping
    environment: Environment
    data: DataCard
    summary: Summary
    epochs: tuple[Epoch, ...]
    events: tuple[LoggedEvent, ...]
    results: tuple[SplitResult, ...]
    gallery: Mapping[str, np.ndarray]
    test_openings: int
    forecast: JsonMapping = field(default_factory=dict)
    looks: Looks | None = None
    diagnosis: Diagnosis | None = None
    cards: tuple[RobustnessCard, ...] = ()

    @property
    def main_score(self) -> str:
        """Name of the main score."""
        return main_score(self.task)

    @property
    def has_test(self) -> bool:
        """Whether the data has a test split; unknown data may have one."""
        return "test" in self.data.splits or not self.data.splits

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the best main score on val: from the summary, else the last one marked best.

        The run has its weights if it restored the best ones.
        """
        if self.summary.best_epoch is not None:
            return self.summary.best_epoch
        return next((epoch.epoch for epoch in reversed(self.epochs) if epoch.best), None)


def view_of(run: Run) -> View:
    """Read the data of a report.

    Raises:
        ConfigError: config.json is not a config.
        InputError: a file of the run is damaged.
    """
    data, summary, log = run.data, run.summary, run.log
    config = to_dict(run.config)
    task = str(summary.task or data.task or config.get("task") or "")
    return View(
        name=run.name or run.path.resolve().name,
        folder=str(run.path),
        task=task,
        classes=data.classes,
        config=config,
        environment=run.environment,
        data=data,
        summary=summary,
        epochs=_epochs(log),
        events=_events(log),
        results=_results(run.scores, task, main_score=main_score(task)),
        gallery=read_gallery(run.path),
        test_openings=log.test_openings,
        forecast=next((event for event in log if event.event == "forecast"), {}),
        looks=log.looks,
        diagnosis=stored_diagnosis(run) or _examined(run),
        cards=tuple(read_cards(run).values()),
    )


def _examined(run: Run) -> Diagnosis | None:
    """A diagnosis from the run's files only; None without training or scores."""
    if not run.log.epochs:
        return None
    return examine(case_of(run), run=run.name)


def to_score(value: Any) -> Score:
    """A Score from JSON (a mapping, a number or null); missing values are NaN."""
    if isinstance(value, Mapping):
        return Score(*(as_float(value.get(key)) for key in ("value", "low", "high")))
    return Score(as_float(value))


def as_float(value: Any) -> float:
    """A finite number as a float; anything else (JSON's null, text) is NaN."""
    return float(value) if is_number(value) else math.nan


def _epochs(log: Log) -> tuple[Epoch, ...]:
    """Epochs in order; one repeated after a resume counts once, by its last record."""
    by_number = {epoch.epoch: epoch for epoch in log.epochs}
    return tuple(by_number[number] for number in sorted(by_number))


def _events(log: Log) -> tuple[LoggedEvent, ...]:
    """Everything but epochs, with the number of the last finished epoch before it."""
    events, last = [], 0
    for event in log:
        number = event.get("epoch")
        if event.event == "epoch" and isinstance(number, int):
            last = number
        else:
            found = LoggedEvent(event=event.event, after_epoch=last, message=event.message, time=event.time)
            events.append(found)
    return tuple(events)


def _results(scores: Mapping[str, SplitScores], task: str, *, main_score: str) -> tuple[SplitResult, ...]:
    title = score_kind(task, main_score).title
    order = sorted(scores, key=lambda name: ({"test": 0, "val": 1}.get(name, 2), name))
    return tuple(
        SplitResult(
            name=name,
            scores=scores[name],
            notes=notes_of(
                scores[name].details,
                scores[name].selection,
                title,
                scores[name].get(main_score, Score(math.nan)),
                test_as_val=bool(scores[name].test_as_val),
            ),
        )
        for name in order
    )
