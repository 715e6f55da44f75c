"""The robustness card of a run: the content of `robustness.json`. No torch: the report reads it too."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opsin.diagnosis.stamp import network_stamp
from opsin.errors import RunError
from opsin.runs import Run, RunWriter, read_extra
from opsin.types import JsonDict, JsonMapping, Score, SplitName, plain_score, scores_from_json

FILE = "robustness.json"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The main score over `n` samples changed by `strength`, without samples whose box left the image."""

    strength: float
    n: int
    score: Score


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One change at all its strengths.

    `unchanged`: the strength that changes nothing. `mean`: of the scores of all strengths, with an interval over
    samples.
    """

    change: str
    unit: str
    unchanged: float
    cells: tuple[Cell, ...]
    mean: Score

    @property
    def worst(self) -> Cell:
        """The cell of the lowest score."""
        return min(self.cells, key=lambda cell: cell.score.value)


@dataclass(frozen=True, kw_only=True)
class ClassLoss:
    """Loss of one class: its score on unmodified images, its mean over all changes, and its worst change.

    `n`: samples (for masks: images) of the class. `worst_change`: the change with the lowest mean, `worst`.
    """

    name: str
    n: int
    clean: float
    changed: float
    worst_change: str
    worst: float


@dataclass(frozen=True, kw_only=True)
class RobustnessCard:
    """Robustness of a run's main score to image changes.

    `n`: samples that were changed, of `n_of_split`. `clean`: their score unmodified. `mean`: of the curves'
    means. `classes`: all classes, largest loss first. `network`: stamp of the measured network.
    `notes`: caveats. `views`: further views over which each prediction was averaged (`--tta`).
    """

    run: str
    network: str
    data: str
    split: str
    task: str
    score: str
    n: int
    n_of_split: int
    seed: int
    clean: Score
    mean: Score
    curves: tuple[Curve, ...]
    classes: tuple[ClassLoss, ...]
    notes: tuple[str, ...] = ()
    views: tuple[str, ...] = ()

    def curve(self, change: str) -> Curve:
        """The curve of one change.

        Raises:
            KeyError: it was not measured.
        """
        return {curve.change: curve for curve in self.curves}[change]

    def to_json(self) -> JsonDict:
        """As plain JSON; None for undefined."""
        plain = asdict(self)
        for curve, own in zip(plain["curves"], self.curves, strict=True):
            curve["mean"] = plain_score(own.mean)
            for cell, measured in zip(curve["cells"], own.cells, strict=True):
                cell["score"] = plain_score(measured.score)
        return plain | {"clean": plain_score(self.clean), "mean": plain_score(self.mean)}


def read_card(run: Run, split: SplitName = "val") -> RobustnessCard:
    """The card written by `opsin evaluate RUN --robustness`.

    Raises:
        RunError: there is none for that split, or its file is damaged.
    """
    stored = read_cards(run)
    if split not in stored:
        do = f"`opsin evaluate {run.path} --robustness` measures it"
        raise RunError(
            "the run has no robustness card of its present network",
            where=run.path,
            got=split,
            expected=", ".join(stored),
            do=do,
        )
    return stored[split]


def read_cards(run: Run) -> dict[str, RobustnessCard]:
    """The cards of a run's present network, by split; empty where there are none.

    Raises:
        RunError: the file is damaged.
    """
    entries = read_extra(run.path, FILE)
    try:
        cards = {split: _card(entry) for split, entry in entries.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        where = Path(run.path) / FILE
        do = "measure it again with `opsin evaluate RUN --robustness`"
        raise RunError("a file of the run is damaged", where=where, got=repr(error), do=do) from error
    stamp = network_stamp(run)
    return {split: card for split, card in cards.items() if card.network == stamp}


def write_card(run: Run, card: RobustnessCard) -> None:
    """Write a card into its run; cards of other splits are kept."""
    RunWriter(run).extra(FILE, read_extra(run.path, FILE) | {card.split: card.to_json()})


def _card(entry: JsonMapping) -> RobustnessCard:
    curves = tuple(
        Curve(**{**curve, "cells": tuple(map(_cell, curve["cells"])), "mean": _score(curve["mean"])})
        for curve in entry["curves"]
    )
    parts = {"clean": _score(entry["clean"]), "mean": _score(entry["mean"]), "curves": curves}
    classes = tuple(ClassLoss(**row) for row in entry["classes"])
    words = {"notes": tuple(entry["notes"]), "views": tuple(entry.get("views", ()))}
    return RobustnessCard(**{**entry, **parts, **words, "classes": classes})


def _cell(entry: JsonMapping) -> Cell:
    return Cell(strength=float(entry["strength"]), n=int(entry["n"]), score=_score(entry["score"]))


def _score(entry: Any) -> Score:
    return scores_from_json({"": entry})[""]
