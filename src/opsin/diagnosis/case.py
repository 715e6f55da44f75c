"""The input of the doctor: a run's files, typed, with measurements of its network. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from opsin import runs
from opsin.config import RunConfig
from opsin.data.quality.findings import Finding
from opsin.runs import Run
from opsin.score_notes import Selection
from opsin.tasks.cards import card_of, main_score, one_of, task_names
from opsin.types import JsonMapping, Score


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of the log; NaN where something was not logged. Scores are the task's main one."""

    number: int
    lr: float
    train_loss: float
    train_score: float
    val_loss: float
    val_score: float


@dataclass(frozen=True, kw_only=True)
class LayerFact:
    """An activation layer: its units (channels), and the number of them that are constant over all images."""

    name: str
    units: int
    dead: int


@dataclass(frozen=True, kw_only=True)
class NormFact:
    """A batch norm: distance of its running statistics from those of unaugmented training images.

    `shift`: distance of the means in standard deviations. `log_ratio`: absolute natural logarithm of the ratio of the
    variances. Medians over channels.
    """

    name: str
    shift: float
    log_ratio: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Measurements with the network: on `num_train` training images without augmentation, and on val.

    `train_brightness`, `val_brightness`: mean pixel of each image, sorted.
    """

    train: Score
    num_train: int
    layers: tuple[LayerFact, ...]
    norms: tuple[NormFact, ...]
    train_brightness: tuple[float, ...]
    val_brightness: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """One scored split: samples, main score, and further entries of scores.json."""

    n: int
    score: Score
    details: JsonMapping


@dataclass(frozen=True, kw_only=True)
class Case:
    """The input of the checks.

    `score`: name of the main score. `sizes`: samples of each split. `class_counts`: of each split where there are
    labels. `findings`: of the audit. `expected_input`: input contract of the pretrained weights, `input`: that of the
    network; empty if unknown. `facts`: None where the network was not run.
    """

    task: str
    score: str
    classes: tuple[str, ...]
    config: RunConfig
    epochs: tuple[Epoch, ...]
    events: tuple[JsonMapping, ...]
    splits: Mapping[str, SplitFacts]
    sizes: Mapping[str, int]
    class_counts: Mapping[str, tuple[int, ...]]
    findings: tuple[Finding, ...]
    expected_input: JsonMapping
    input: JsonMapping
    selection: Selection | None
    facts: Facts | None = None

    @property
    def val(self) -> SplitFacts | None:
        """The val split, where it was scored."""
        return self.splits.get("val")

    @property
    def decides_class(self) -> bool:
        """Whether one class is decided for each image."""
        return self.task in task_names() and card_of(self.task).decides_class

    @property
    def chance_loss(self) -> tuple[float, str]:
        """The training loss of a network that knows nothing, and what that is in words."""
        return (card_of(self.task).first_loss if self.task in task_names() else one_of)(len(self.classes))

    @property
    def part_rows(self) -> tuple[JsonMapping, ...]:
        """What val's details say of each class or number."""
        details = {} if self.val is None else self.val.details
        return tuple(details.get("per_class") or details.get("per_number") or ())

    @property
    def part_score(self) -> str:
        """The main score of one class or number, in those rows."""
        return card_of(self.task).part_score if self.task in task_names() else "recall"

    @property
    def loss_floor(self) -> float:
        """The training loss of a perfect network: not zero where labels are smoothed."""
        smoothing, count = self.config.train.label_smoothing, max(2, len(self.classes))
        if not smoothing or not self.decides_class:
            return 0.0
        other = smoothing / count
        true = 1 - smoothing + other
        return -(true * math.log(true) + (count - 1) * other * math.log(other))

    def excess(self, loss: float) -> float:
        """A training loss on a scale from 0 (a perfect network) to 1 (one that knows nothing)."""
        chance, _ = self.chance_loss
        return (loss - self.loss_floor) / (chance - self.loss_floor)


def case_of(run: Run, facts: Facts | None = None) -> Case:
    """Read the input of the checks.

    Raises:
        RunError: a file of the run is damaged.
    """
    data, log, scores = run.data, run.log, run.scores
    task = data.task or ""
    score = main_score(task)
    by_number = {epoch.epoch: epoch for epoch in log.epochs}
    return Case(
        task=task,
        score=score,
        classes=data.classes,
        config=run.config,
        epochs=tuple(_epoch(by_number[number], score) for number in sorted(by_number)),
        events=tuple(event for event in log if event.event != "epoch"),
        splits={name: _split(entry, score) for name, entry in scores.items()},
        sizes={name: split.n for name, split in data.splits.items()},
        class_counts={name: split.class_counts for name, split in data.splits.items() if split.class_counts},
        findings=data.findings,
        expected_input=runs.read_extra(run.path, "weights.json").get("input") or {},
        input=runs.read_extra(run.path, "model/model.json").get("preprocess") or {},
        selection=scores["val"].selection if "val" in scores else None,
        facts=facts,
    )


def _epoch(logged: runs.Epoch, score: str) -> Epoch:
    train, val = logged.train, logged.val
    return Epoch(
        number=logged.epoch,
        lr=logged.lr,
        train_loss=train.get("loss", math.nan),
        train_score=train.get(score, math.nan),
        val_loss=val.get("loss", math.nan),
        val_score=val.get(score, math.nan),
    )


def _split(entry: runs.SplitScores, score: str) -> SplitFacts:
    return SplitFacts(n=entry.n, score=entry.get(score, Score(math.nan)), details=entry.details)
