"""`opsin compare`: runs grouped by what they differ in, their scores and costs, and which is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, takewhile
from typing import Any

import numpy as np

from opsin.artifact import load as load_artifact
from opsin.compare.outcomes import Outcomes, outcomes_of
from opsin.compare.paired import (
    LEVEL,
    difference_interval,
    holm,
    resampled_scores,
    seeds_interval,
    seeds_test,
    swap_test,
)
from opsin.config import to_dict
from opsin.errors import ConfigError, DataError
from opsin.models.table import layer_table
from opsin.ops.intervals import share_interval, wilson
from opsin.runs import Run
from opsin.types import SplitName

SAME = "no difference shown"
NOT_COMPARED = ("train.seed", "train.threads", "train.device")
"""Settings in which the runs of one group may differ."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in their seed alone; a second run of the same seed is in a group of its own.

    `score`: mean of the main score over seeds. `low`, `high`: 95 % interval, `interval` says of what: over `seeds`
    (Student) or, for one run, over `samples`, as its evaluation has it (Wilson's of shares, else the bootstrap's).
    `parameters`: stored numbers of the network. `flops`: of one image forward, a multiplication and an addition
    counting as two. `seconds`: of training, mean over seeds.
    """

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    score: float
    low: float
    high: float
    interval: str
    parameters: int
    flops: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two groups on the same samples.

    `difference`: score of b less that of a; `low`, `high`: its 95 % interval over resampled samples and seeds. `p`: of
    the paired test on the samples; `p_adjusted`: raised by Holm's method for the number of pairs; `p_seeds`: of Welch's
    test over seeds, None without two seeds on each side. `verdict`: a group is called better where the interval leaves
    0 out and `p_adjusted` is below 0.05. `differs`: settings in which they differ.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    p_seeds: float | None
    verdict: str
    differs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All groups and all pairs of them, on `samples` samples of `split`; `score` is what is compared."""

    score: str
    split: str
    samples: int
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Collected:
    """Runs of one group, with what they got right."""

    runs: list[Run]
    outcomes: list[Outcomes]
    settings: dict[str, Any]

    @property
    def parts(self) -> list[Any]:
        return [found.parts for found in self.outcomes]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.config.train.seed for run in self.runs)


def compare_runs(runs: Sequence[Run], *, split: SplitName = "val") -> Comparison:
    """Compare finished runs of one task on the same samples.

    Args:
        runs: two or more; those that differ in their seed alone, and do differ in it, count as one.
        split: of which predictions are kept in the runs.

    Raises:
        ConfigError: fewer than two runs, or one is named twice.
        RunError: a run has no predictions on the split.
        DataError: the runs were scored on different samples.
    """
    if len(runs) < 2 or len({run.path.resolve() for run in runs}) < len(runs):
        got = ", ".join(run.name for run in runs)
        raise ConfigError("compare what with what?", got=got, expected="two runs or more, each once")
    outcomes = [outcomes_of(run, split) for run in runs]
    _check_alike(runs, outcomes)
    collected = _collected(runs, outcomes)
    groups = [_group(found, name) for found, name in zip(collected, _names(collected), strict=True)]
    found = list(combinations(zip(groups, collected, strict=True), 2))
    p_values = [swap_test(a.parts, b.parts, outcomes[0].of_sums) for (_, a), (_, b) in found]
    raised = holm(p_values)
    return Comparison(
        score=outcomes[0].score,
        split=split,
        samples=len(outcomes[0].parts),
        groups=tuple(groups),
        pairs=tuple(_pair(*two, p, q) for two, p, q in zip(found, p_values, raised, strict=True)),
    )


def _check_alike(runs: Sequence[Run], outcomes: Sequence[Outcomes]) -> None:
    for run, found in zip(runs, outcomes, strict=True):
        if found.good_iou != outcomes[0].good_iou:
            raise DataError(
                "the runs call a box good from different IoUs on",
                where=run.path,
                got=found.good_iou,
                expected=outcomes[0].good_iou,
                do="`opsin evaluate RUN --good-iou` scores both at one",
            )
        if (found.score, found.samples) != (outcomes[0].score, outcomes[0].samples):
            raise DataError(
                "the runs were not scored on the same samples",
                where=run.path,
                expected=f"the samples of {runs[0].path}",
                do="train both on the same data set with the same splits, size of masks and boxes included",
            )


def _collected(runs: Sequence[Run], outcomes: Sequence[Outcomes]) -> list[_Collected]:
    """The groups, in the order of their first runs.

    Runs of one seed and one setting are no independent draws: as seeds of one group they would make its interval too
    narrow. So the second one opens another group, and is compared with the first.
    """
    groups: list[_Collected] = []
    for run, found in zip(runs, outcomes, strict=True):
        settings, seed = flat_settings(run), run.config.train.seed
        alike = (group for group in groups if group.settings == settings)
        same = next((group for group in alike if seed not in group.seeds), None)
        if same is None:
            groups.append(_Collected(runs=[run], outcomes=[found], settings=settings))
        else:
            same.runs.append(run)
            same.outcomes.append(found)
    return groups


def flat_settings(run: Run) -> dict[str, Any]:
    """Settings of a run by dotted names, without those of `NOT_COMPARED`; where its data lie is no setting.

    An ensemble has the settings of its first member, and besides them what it is made of.
    """
    summary = run.summary
    flat = {f"ensemble.{key}": summary[key] for key in ("kind", "members") if key in summary}

    def walk(prefix: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict):
                walk(f"{name}.", value)
            elif name not in (*NOT_COMPARED, "root"):
                flat[name] = value

    walk("", to_dict(run.config))
    return flat


def _names(groups: Sequence[_Collected]) -> list[str]:
    """What the runs of a group have in common in their names.

    Where that is nothing, or another group is called so too: the name of its first run, then the path of that.
    """
    ways: tuple[Callable[[_Collected], str], ...] = (
        _common_name,
        lambda group: group.runs[0].name,
        lambda group: str(group.runs[0].path),
    )
    names = [""] * len(groups)
    for way in ways:
        found = [name or way(group) for name, group in zip(names, groups, strict=True)]
        names = [name if found.count(name) == 1 else "" for name in found]
    return names


def _common_name(group: _Collected) -> str:
    names = [run.name for run in group.runs]
    if len(names) == 1:
        return names[0]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike).rstrip("-_.")


def _samples_interval(outcome: Outcomes) -> tuple[float, float]:
    """The interval of one run's score over samples."""
    if outcome.is_share:
        low, high = wilson(outcome.value * len(outcome.parts), len(outcome.parts))
        return float(low), float(high)
    resampled = resampled_scores([outcome.parts], outcome.of_sums)
    ends = share_interval(resampled[:, None], len(outcome.parts), level=LEVEL)
    return float(ends[0][0]), float(ends[1][0])


def _group(found: _Collected, name: str) -> Group:
    scores = [outcome.value for outcome in found.outcomes]
    low, high = seeds_interval(scores) if len(scores) > 1 else _samples_interval(found.outcomes[0])
    artifact = load_artifact(found.runs[0].model_folder)
    spec = artifact.spec
    table = layer_table(artifact.network, spec.channels, spec.height, spec.width)
    return Group(
        name=name,
        runs=tuple(str(run.path) for run in found.runs),
        seeds=found.seeds,
        scores=tuple(scores),
        score=float(np.mean(scores)),
        low=low,
        high=high,
        interval="seeds" if len(scores) > 1 else "samples",
        parameters=table.parameters,
        flops=2 * table.multiply_adds,
        seconds=float(np.mean([run.summary.get("seconds", np.nan) for run in found.runs])),
    )


def _pair(first: tuple[Group, _Collected], second: tuple[Group, _Collected], p: float, p_adjusted: float) -> Pair:
    (a, found_a), (b, found_b) = first, second
    low, high = difference_interval(found_a.parts, found_b.parts, found_a.outcomes[0].of_sums)
    clear = p_adjusted < 1 - LEVEL and (low > 0 or high < 0)  # an undefined interval is not clear
    better = b.name if low > 0 else a.name
    keys = dict.fromkeys((*found_a.settings, *found_b.settings))
    return Pair(
        a=a.name,
        b=b.name,
        difference=b.score - a.score,
        low=low,
        high=high,
        p=p,
        p_adjusted=p_adjusted,
        p_seeds=seeds_test(a.scores, b.scores),
        verdict=f"{better} is better" if clear else SAME,
        differs=tuple(key for key in keys if found_a.settings.get(key) != found_b.settings.get(key)),
    )
