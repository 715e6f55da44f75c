"""`opsin compare`: runs grouped by settings, their scores and costs, and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from opsin.comparison.grouping import Collected, grouped, grouped_by_name, names_of
from opsin.comparison.outcomes import Outcomes, outcomes_of
from opsin.comparison.paired import LEVEL, difference_interval, group_interval, holm, seeds_test, swap_test
from opsin.comparison.sizes import size_of
from opsin.errors import ConfigError, DataError
from opsin.ops.intervals import wilson
from opsin.runs import Run
from opsin.score_notes import OPTIMISM, TEST_AS_VAL
from opsin.types import JsonDict, SplitName

SAME = "no difference shown"
FEW_SEEDS = 5
"""Number of seeds below which their spread is poorly known."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ only in their seed and in settings that do not affect results.

    A second run with the same seed forms its own group.

    `score`: mean of the main score over seeds. `low`, `high`: 95 % interval, `interval`: over `seeds and
    samples` or, for one run, over `samples`, as in its evaluation. `notes`: caveats.
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
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two groups on the same samples.

    `difference`: score of b minus that of a; `low`, `high`: its 95 % interval over samples, and over seeds where a
    group has several. `p`: of the paired test on the samples; `p_seeds`: of Welch's test over seeds, None without two
    seeds on each side. `p_adjusted`, `p_seeds_adjusted`: raised by Holm's method for the number of pairs. `compared`:
    `methods` with two seeds or more on each side, else `networks`: the variation of a method over seeds is then
    unknown. `verdict`: a group is called better where the interval excludes 0 and the adjusted p are below 0.05.
    `differs`: settings in which they differ. `notes`: caveats of the verdict.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    p_seeds: float | None
    p_seeds_adjusted: float | None
    compared: str
    verdict: str
    differs: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All groups and all pairs of them, on `samples` samples of `split`; `score` is the compared score."""

    score: str
    split: str
    samples: int
    groups: tuple[Group, ...]
    pairs: tuple[Pair, ...]

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        return asdict(self)


def compare_runs(
    runs: Sequence[Run], *, names: Sequence[str] = (), split: SplitName = "val", against_first: bool = False
) -> Comparison:
    """Compare finished runs of one task on the same samples.

    Args:
        runs: two or more; runs that differ only in their seed form one group.
        names: of the group of each run, where they are grouped otherwise, e.g. since a budget gave each other minutes.
        split: split whose stored predictions are compared.
        against_first: only the pairs that the first run's group is in; p is then raised for their number alone.

    Raises:
        ConfigError: fewer than two runs, or one is named twice; `names` are not as many, or group runs of one seed.
        RunError: a run has no predictions on the split.
        DataError: the runs are of different tasks, or were scored on different samples.
    """
    if len(runs) < 2 or len({run.path.resolve() for run in runs}) < len(runs):
        got = ", ".join(run.name for run in runs)
        raise ConfigError(
            "a comparison needs several runs", got=got, expected="two runs or more, each once", do="name a second run"
        )
    _check_tasks(runs)
    outcomes = [outcomes_of(run, split) for run in runs]
    _check_alike(runs, outcomes)
    collected = grouped_by_name(runs, outcomes, names) if names else grouped(runs, outcomes)
    named = tuple(dict.fromkeys(names)) or names_of(collected)
    groups = [_group(found, name) for found, name in zip(collected, named, strict=True)]
    groups = [
        replace(group, notes=(*group.notes, *_opened(runs_of.runs), *_chosen_by(runs_of.runs, split)))
        for group, runs_of in zip(groups, collected, strict=True)
    ]
    found = list(combinations(zip(groups, collected, strict=True), 2))
    found = found[: len(groups) - 1] if against_first else found
    of_sums = outcomes[0].of_sums
    tested = [_Tested(swap_test(a.parts, b.parts, of_sums), seeds_test(a.scores, b.scores)) for (_, a), (_, b) in found]
    return Comparison(
        score=outcomes[0].score,
        split=split,
        samples=len(outcomes[0].parts),
        groups=tuple(groups),
        pairs=tuple(_pair(*two, tests) for two, tests in zip(found, _adjusted(tested), strict=True)),
    )


def _check_tasks(runs: Sequence[Run]) -> None:
    tasks = [str(run.data.task) for run in runs]
    for run, task in zip(runs, tasks, strict=True):
        if task != tasks[0]:
            what, do = "the runs have different tasks", "compare runs of one task, whose scores have the same meaning"
            raise DataError(what, where=run.path, got=task, expected=f"{tasks[0]}, as {runs[0].path}", do=do)


def _check_alike(runs: Sequence[Run], outcomes: Sequence[Outcomes]) -> None:
    for run, found in zip(runs, outcomes, strict=True):
        if found.good_iou != outcomes[0].good_iou:
            raise DataError(
                "the runs use different IoU thresholds for good boxes",
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


def _interval(found: Collected) -> tuple[float, float]:
    """The interval of the mean main score, over seeds and samples."""
    first = found.outcomes[0]
    if len(found.runs) > 1 or not first.is_share:
        return group_interval(found.parts, first.of_sums, bounded=first.bounded)
    low, high = wilson(first.value * len(first.parts), len(first.parts))
    return float(low), float(high)


def _group(found: Collected, name: str) -> Group:
    scores = found.scores
    low, high = _interval(found)
    parameters, flops = size_of(found.runs[0].model_folder)
    return Group(
        name=name,
        runs=tuple(str(run.path) for run in found.runs),
        seeds=found.seeds,
        scores=tuple(scores),
        score=float(np.mean(scores)),
        low=low,
        high=high,
        interval="seeds and samples" if len(scores) > 1 else "samples",
        parameters=parameters,
        flops=flops,
        seconds=float(np.mean([np.nan if (s := run.summary.seconds) is None else s for run in found.runs])),
        notes=(*_few_seeds(len(scores)), *unequal(found.runs)),
    )


def _opened(runs: Sequence[Run]) -> tuple[str, ...]:
    """Notes on openings of the test split, for a choice between these runs."""
    notes = []
    if stamped := [run.name for run in runs if run.config.data.test_as_val]:
        notes.append(f"{', '.join(stamped)}: {TEST_AS_VAL}")
    if opened := [run for run in runs if run.log.test_openings and run.name not in stamped]:
        looks = max(
            (found for run in opened if (found := run.log.looks) is not None), key=lambda it: it.looks, default=None
        )
        told = "" if looks is None else f" ({looks.words()})"
        notes.append(
            f"test was opened in {', '.join(run.name for run in opened)}{told}: a choice made now may depend on it, so "
            "the test score of the chosen run is no longer that of a sealed test"
        )
    return tuple(notes)


def _chosen_by(runs: Sequence[Run], split: str) -> tuple[str, ...]:
    """That the epochs of these runs were chosen by the very score that is compared."""
    chosen = [run.scores[split].selection for run in runs if split in run.scores]
    known = [selection for selection in chosen if selection is not None]
    if not known:
        return ()
    leans = [selection.optimism for selection in known if selection.optimism is not None]
    told = f"by about {np.mean(leans):.4f}" if leans else OPTIMISM
    most = max(selection.epochs for selection in known)
    return (f"each score is the best of up to {most} epochs on {split}, so it leans to the good side: {told}",)


def _few_seeds(count: int) -> tuple[str, ...]:
    if not 1 < count < FEW_SEEDS:
        return ()
    return (f"{count} seeds give a poor estimate of their spread, so the interval is wide: train {FEW_SEEDS} or more",)


UNEQUAL: Mapping[str, Callable[[Run], Any]] = {
    "steps": lambda run: run.summary.step,
    "training samples": lambda run: run.data.splits["train"].n if "train" in run.data.splits else None,
    "data sets": lambda run: run.data.fingerprint,
}
"""What should be equal for a fair comparison, by name."""


def unequal(runs: Sequence[Run]) -> tuple[str, ...]:
    """Inequalities in the training of these runs: steps, training samples, the data set."""
    notes = []
    for name, of in UNEQUAL.items():
        values = dict.fromkeys(value for run in runs if (value := of(run)) is not None)
        if len(values) > 1:
            numbers = sorted(value for value in values if isinstance(value, int))
            told = f": {numbers[0]:,} to {numbers[-1]:,}" if len(numbers) > 1 else ""
            notes.append(f"unequal {name}{told}")
    return tuple(notes)


@dataclass(frozen=True)
class _Tested:
    """The p values of a pair, over samples and over seeds, and the same raised for the number of pairs."""

    p: float
    p_seeds: float | None
    p_adjusted: float = np.nan
    p_seeds_adjusted: float | None = None


def _adjusted(tested: Sequence[_Tested]) -> list[_Tested]:
    known = [test.p_seeds for test in tested if test.p_seeds is not None]
    over_samples, over_seeds = iter(holm([test.p for test in tested])), iter(holm(known))
    return [
        replace(
            test,
            p_adjusted=next(over_samples),
            p_seeds_adjusted=None if test.p_seeds is None else next(over_seeds),
        )
        for test in tested
    ]


def _pair(first: tuple[Group, Collected], second: tuple[Group, Collected], tests: _Tested) -> Pair:
    (a, found_a), (b, found_b) = first, second
    known = found_a.outcomes[0]
    low, high = difference_interval(found_a.parts, found_b.parts, known.of_sums, bounded=known.bounded)
    methods = min(len(a.runs), len(b.runs)) > 1
    keys = dict.fromkeys((*found_a.settings, *found_b.settings))
    return Pair(
        a=a.name,
        b=b.name,
        difference=b.score - a.score,
        low=low,
        high=high,
        p=tests.p,
        p_adjusted=tests.p_adjusted,
        p_seeds=tests.p_seeds,
        p_seeds_adjusted=tests.p_seeds_adjusted,
        compared="methods" if methods else "networks",
        verdict=_verdict(a, b, (low, high), tests, methods=methods),
        differs=tuple(key for key in keys if found_a.settings.get(key) != found_b.settings.get(key)),
        notes=(*(() if methods else (_one_run(a, b),)), *unequal([*found_a.runs, *found_b.runs])),
    )


def _verdict(a: Group, b: Group, ends: tuple[float, float], tests: _Tested, *, methods: bool) -> str:
    """Which is better; an undefined interval is not clear, nor are methods without a spread of seeds."""
    low, high = ends
    clear = tests.p_adjusted < 1 - LEVEL and (low > 0 or high < 0)
    if methods:
        clear = clear and tests.p_seeds_adjusted is not None and tests.p_seeds_adjusted < 1 - LEVEL
    if not clear:
        return SAME
    better = b.name if low > 0 else a.name
    return f"{better} is better" if methods else f"{better} is better, as a trained network"


def _one_run(a: Group, b: Group) -> str:
    """A note on comparisons with one run per method."""
    alone = " and ".join(group.name for group in (a, b) if len(group.runs) == 1)
    return (
        f"trained networks were compared, not methods: {alone} ran with one seed, and another seed could reverse it; "
        f"train {FEW_SEEDS} seeds of each (`--seed`) to compare methods"
    )
