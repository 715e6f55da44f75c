"""The content of the files of a run folder, as frozen records.

| record | file |
|---|---|
| `DataCard` | data.json |
| `Environment` | environment.json |
| `Summary` | summary.json |
| `SplitScores`, by split | scores.json |
| `Event`, `Epoch` | a line of log.jsonl |

A field that was not recorded is None or empty, never invented. A record in which nothing was recorded is false:
`if not run.summary` asks whether the run has a summary. Keys that a newer version has added are kept in `extra`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from opsin.data.quality.findings import Finding
from opsin.runs.codec import nullable
from opsin.score_notes import Selection
from opsin.types import JsonMapping, Score

VERSION = 1
"""Version of the files of a run folder. Later versions are refused."""


class Record:
    """A record of a file: true where something was recorded."""

    def __bool__(self) -> bool:
        return self != type(self)()


@dataclass(frozen=True, kw_only=True)
class SplitCard:
    """A split in data.json: number of samples, and how many of each class (None where samples have no single one)."""

    n: int
    class_counts: tuple[int, ...] | None = nullable()


@dataclass(frozen=True, kw_only=True)
class DataCard(Record):
    """The data set that a run was trained on.

    `size`: height and width of the network's input in pixels. `bits`: bits a channel that were kept; None of a run from
    before there was the choice, where they are 8. `skipped`: by split, names of samples that could not be
    read. `findings`: of the audit before training. `test_content`: SHA-256 over the images of the test split, by which
    its openings are counted over all runs. `test_as_val`: true where the test split is used as val. `version`:
    of the run folder.
    """

    version: int = VERSION
    name: str | None = None
    task: str | None = None
    classes: tuple[str, ...] = ()
    layout: str | None = None
    root: str | None = nullable()
    published: bool | None = None
    splits: Mapping[str, SplitCard] = field(default_factory=dict)
    size: tuple[int, ...] | None = None
    channels: int | None = None
    bits: int | None = None
    fingerprint: str | None = None
    test_content: str | None = None
    test_as_val: bool | None = None
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    extra: JsonMapping = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A candidate for the precision of a run, and how fast it was; `note`: why it was not timed."""

    precision: str
    images_per_second: float
    channels_last: bool = False
    compile: bool = False
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Environment(Record):
    """Versions, processor, and the precision and threads that were chosen, with the timings behind the choice.

    `busy_cores`: cores that other processes kept busy when threads were chosen; NaN where that was not known.
    """

    opsin: str | None = None
    python: str | None = None
    torch: str | None = None
    torchvision: str | None = None
    platform: str | None = None
    processor: str | None = None
    cpu_capability: str | None = None
    cores: int | None = None
    threads: int | None = None
    memory_bytes: int | None = None
    device: str | None = None
    gpu: str | None = None
    precision: str | None = None
    channels_last: bool | None = None
    compiled: bool | None = None
    timings: tuple[Timing, ...] = ()
    busy_cores: float | None = None
    thread_timings: tuple[JsonMapping, ...] | None = None
    extra: JsonMapping = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Summary(Record):
    """The outcome in a few numbers, and the command.

    `seconds`: of training; `cpu_seconds`: of all cores together. `stopped`: why training ended. `kind`, `members`,
    `weights`, `gain`: of an ensemble. `converted_from`, `max_difference`: of a network for any size of image.
    """

    run: str | None = None
    task: str | None = None
    data: str | None = None
    model: str | None = None
    parameters: int | None = None
    trainable: int | None = None
    epochs: int | None = None
    step: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    best_epoch: int | None = None
    peak_memory_bytes: int | None = None
    command: str | None = None
    stopped: str | None = None
    test_openings: int | None = None
    kind: str | None = None
    members: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    gain: Score | None = None
    converted_from: str | None = None
    max_difference: float | None = None
    extra: JsonMapping = field(default_factory=dict)


class NamedScores(Mapping[str, Score]):
    """Scores with intervals, by name: `scores["accuracy"]`."""

    scores: Mapping[str, Score]

    def __getitem__(self, name: str) -> Score:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, kw_only=True)
class WithoutCopies(NamedScores):
    """Scores of the samples that have no copy among the training images.

    `n`: those samples. `exact`: number of others with an equal training image. `near`: number of further ones with a
    training image of the same scene; None if near copies were not searched for.
    """

    n: int
    exact: int
    near: int | None = nullable()
    scores: Mapping[str, Score]


@dataclass(frozen=True, kw_only=True)
class AugmentedScores(NamedScores):
    """Scores with test-time augmentation: `views` are the kinds of views that were averaged with the image's own."""

    views: tuple[str, ...]
    scores: Mapping[str, Score]


@dataclass(frozen=True, kw_only=True)
class SplitScores(NamedScores):
    """Scores of one split, by name: `run.scores["val"]["accuracy"]`.

    `n`: samples. `details`: of the task, plain JSON for the report. `fitted`: what was fitted on val (NaN: no
    optimum). `without_copies`: scores without copies of training images; None if not computed. `tta`:
    scores with test-time augmentation; None if not requested. `selection`: how the epoch was chosen on this
    split. `opened`: number of openings of a sealed split when it was scored. `test_as_val`: true where this val
    is the test split, by which epochs were chosen.
    """

    n: int = 0
    scores: Mapping[str, Score]
    details: JsonMapping = field(default_factory=dict)
    fitted: Mapping[str, float] = field(default_factory=dict)
    without_copies: WithoutCopies | None = None
    tta: AugmentedScores | None = None
    selection: Selection | None = None
    opened: int | None = None
    test_as_val: bool | None = None
    extra: JsonMapping = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Event(Mapping[str, object]):
    """A line of the log: its kind, its time (ISO 8601, UTC), the step, a message, and further fields of that kind.

    It is a mapping of all its fields: `event["decay"]`.
    """

    event: str
    time: str | None = None
    step: int | None = None
    message: str | None = None
    extra: JsonMapping = field(default_factory=dict)

    def __getitem__(self, key: str) -> object:
        return self._told[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._told)

    def __len__(self) -> int:
        return len(self._told)

    @property
    def _told(self) -> dict[str, object]:
        own = {"event": self.event, "time": self.time, "step": self.step, "message": self.message}
        return {key: value for key, value in own.items() if value is not None} | dict(self.extra)


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The log record of an epoch.

    `step`: at its end. `seconds`: of training until then. `lr`: learning rate. `train`, `val`: loss and scores, NaN
    where undefined. `cpu_percent`, `gpu_percent`: share of all cores and of the GPU that was busy. `best`: no earlier
    epoch was better on val.
    """

    epoch: int
    time: str | None = None
    step: int | None = None
    seconds: float = math.nan
    lr: float = math.nan
    train: Mapping[str, float] = field(default_factory=dict)
    val: Mapping[str, float] = field(default_factory=dict)
    images_per_second: float = math.nan
    cpu_percent: float = math.nan
    peak_memory_bytes: int | None = None
    best: bool = False
    gpu_memory_bytes: int | None = None
    gpu_percent: float = math.nan
    extra: JsonMapping = field(default_factory=dict)
