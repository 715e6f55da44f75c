"""What the sections of a report need of a run, read once and with its gaps filled by "nothing recorded"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from opsin.config import to_dict
from opsin.diagnosis.card import RobustnessCard, read_cards
from opsin.diagnosis.case import case_of
from opsin.diagnosis.doctor import Diagnosis, examine, stored_diagnosis
from opsin.report.formats import is_number
from opsin.runs import Run
from opsin.score_notes import notes_of
from opsin.tasks.cards import MAIN_SCORES, score_kind
from opsin.types import Score


@dataclass(frozen=True, kw_only=True)
class WithoutCopies:
    """A split's scores by name over the `num_samples` that have no copy in train.

    `exact` is how many others have an equal image there, `near` how many more one of the same shot; None: not searched.
    """

    num_samples: int
    exact: int
    near: int | None
    scores: Mapping[str, Score]


@dataclass(frozen=True, kw_only=True)
class AugmentedScores:
    """Scores with test-time augmentation, and which views of each image were averaged with the image as it is."""

    views: tuple[str, ...]
    scores: Mapping[str, Score]


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """The scores of one split.

    Fields: `scores` by name, `details` as the task wrote them (plain JSON), `opened` how often a sealed split was
    looked at, `num_samples` what was scored, `without_copies` where copies in train were looked for,
    `tta` where it was also scored with test-time augmentation, `notes` what a reader of the main score must know.
    """

    name: str
    num_samples: int
    scores: Mapping[str, Score]
    details: Mapping[str, Any]
    opened: int
    without_copies: WithoutCopies | None = None
    tta: AugmentedScores | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class View:
    """A run as the report sees it. Parts that the run has not written yet are empty, never invented.

    `epochs` holds the log's epochs in order, each once; `events` everything else, each with "after_epoch".
    `diagnosis` is what the doctor left, else what the files alone tell; `cards` are robustness cards.
    `results` holds the splits that were scored, test first. `gallery` holds uint8 arrays `[n, C, h, w]`.
    """

    name: str
    folder: str
    task: str
    classes: tuple[str, ...]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    summary: Mapping[str, Any]
    epochs: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    results: tuple[SplitResult, ...]
    gallery: Mapping[str, np.ndarray]
    test_openings: int
    diagnosis: Diagnosis | None = None
    cards: tuple[RobustnessCard, ...] = ()

    @property
    def main_score(self) -> str:
        """Name of the score that the report opens with."""
        return MAIN_SCORES.get(self.task, "accuracy")

    @property
    def has_test(self) -> bool:
        """Whether the data has a test split; a run that does not describe its data may have one."""
        return "test" in self.data.get("splits", {"test": None})

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the best main score on val: as the summary says, else the last that was the best so far.

        Its weights are those of the run where it restored the best ones.
        """
        if is_number(self.summary.get("best_epoch")):
            return int(self.summary["best_epoch"])
        return next((int(e["epoch"]) for e in reversed(self.epochs) if e.get("best")), None)


def view_of(run: Run) -> View:
    """Read everything that a report shows.

    Raises:
        ConfigError: config.json is not a config.
        InputError: a file of the run is damaged.
    """
    data, summary, log = run.data, run.summary, run.log
    config = to_dict(run.config)
    task = str(summary.get("task") or data.get("task") or config.get("task") or "")
    return View(
        name=run.name or run.path.resolve().name,
        folder=str(run.path),
        task=task,
        classes=tuple(str(name) for name in data.get("classes", ())),
        config=config,
        environment=run.environment,
        data=data,
        summary=summary,
        epochs=_epochs(log),
        events=_events(log),
        results=_results(run.results, task, main_score=MAIN_SCORES.get(task, "accuracy")),
        gallery=run.gallery(),
        test_openings=run.test_openings,
        diagnosis=stored_diagnosis(run) or _examined(run),
        cards=tuple(read_cards(run).values()),
    )


def _examined(run: Run) -> Diagnosis | None:
    """What the run's files alone tell; None where nothing was trained or scored."""
    if not run.epochs:
        return None
    return examine(case_of(run), run=run.name)


def to_score(value: Any) -> Score:
    """A score as the JSON has it (a mapping, a number or null) as a Score; what is missing is NaN."""
    if isinstance(value, Mapping):
        return Score(*(as_float(value.get(key)) for key in ("value", "low", "high")))
    return Score(as_float(value))


def as_float(value: Any) -> float:
    """A finite number as a float; anything else (JSON's null, text) is NaN."""
    return float(value) if is_number(value) else math.nan


def _epochs(log: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Epochs in order; one that was trained again after a resume counts once, as it went the last time."""
    by_number = {int(event["epoch"]): event for event in log if event.get("event") == "epoch"}
    return tuple(by_number[number] for number in sorted(by_number))


def _events(log: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Everything but epochs, with the number of the last epoch that had ended before it."""
    events, epoch = [], 0
    for event in log:
        if event.get("event") == "epoch":
            epoch = int(event["epoch"])
        else:
            events.append({**event, "after_epoch": epoch})
    return tuple(events)


def _results(scores: Mapping[str, Any], task: str, *, main_score: str) -> tuple[SplitResult, ...]:
    title = score_kind(task, main_score).title
    order = sorted(scores, key=lambda name: ({"test": 0, "val": 1}.get(name, 2), name))
    return tuple(
        SplitResult(
            name=name,
            num_samples=int(scores[name].get("n", 0)),
            scores=_scores(scores[name]),
            details=scores[name].get("details", {}),
            opened=int(scores[name].get("opened", 0)),
            without_copies=_without_copies(scores[name].get("without_copies")),
            tta=_augmented(scores[name].get("tta")),
            notes=notes_of(scores[name], title, to_score(scores[name].get("scores", {}).get(main_score))),
        )
        for name in order
    )


def _without_copies(entry: Mapping[str, Any] | None) -> WithoutCopies | None:
    if entry is None:
        return None
    near = entry.get("near")
    return WithoutCopies(
        num_samples=int(entry.get("n", 0)),
        exact=int(entry.get("exact", 0)),
        near=None if near is None else int(near),
        scores=_scores(entry),
    )


def _augmented(entry: Mapping[str, Any] | None) -> AugmentedScores | None:
    return None if entry is None else AugmentedScores(views=tuple(entry.get("views", ())), scores=_scores(entry))


def _scores(entry: Mapping[str, Any]) -> dict[str, Score]:
    return {key: to_score(value) for key, value in entry.get("scores", {}).items()}
