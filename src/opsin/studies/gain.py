"""Whether the winner of a search is better than the given settings: both with fresh seeds, paired on val."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opsin.comparison.comparison import SAME, Comparison, compare_runs
from opsin.errors import DivergedError
from opsin.progress import Reporter
from opsin.report import write_report
from opsin.runs import Run

FRESH = 1000
"""Offset from the seed of the trials to the first seed of the comparison, which no trial used."""
DISTINGUISHED = "the winner is better than the given settings"
NOT_DISTINGUISHED = "not distinguishable from the given settings"
WORSE = "the winner is worse than the given settings"
NOT_BEATEN = "no trial beat the given settings"
NOT_YET = "not compared yet: other processes still work on this study, and the last of them compares"
GIVEN_DIVERGED = "the given settings diverge, so there is nothing to compare with"
WINNER_DIVERGED = "the winner diverges with a fresh seed: do not use it"


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The winner minus the given settings, on val, over fresh seeds.

    `low`, `high`: 95 % interval over seeds and samples. `p`: over samples; `p_seeds`: over seeds, None with one seed.
    `winner`, `given`: mean scores of the two.
    """

    difference: float
    low: float
    high: float
    p: float
    p_seeds: float | None
    seeds: int
    winner: float
    given: float

    def __str__(self) -> str:
        return (
            f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}], {self.winner:.4f} against {self.given:.4f} "
            f"on val, {self.seeds} fresh seed{'s' if self.seeds > 1 else ''} of each"
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of the comparison: the gain or None, the verdict as text, and the runs."""

    gain: Gain | None
    verdict: str
    runs: tuple[Run, ...] = ()


def compare_with_given(
    train: Callable[[str, Mapping[str, Any]], Run],
    given: tuple[str, Mapping[str, Any]],
    winner: tuple[str, Mapping[str, Any]],
    *,
    seeds: int,
    first_seed: int,
    has_time: Callable[[], bool],
    report: Reporter,
) -> Outcome:
    """Train both sides with the same fresh seeds, in turn, and compare them on val.

    Args:
        train: trains a run with a name and settings.
        given, winner: name and settings of each side.
        seeds: largest number of seeds per side.
        first_seed: the seed of the trials.
        has_time: asked before each seed but the first.
        report: shows progress.
    """
    runs: list[Run] = []
    with report.bar("comparing", 2 * seeds) as bar:
        for seed in range(first_seed + FRESH, first_seed + FRESH + seeds):
            if runs and not has_time():
                report.message(f"{len(runs) // 2} of {seeds} seeds of each: no more fit into the budget")
                break
            for name, settings in (given, winner):
                try:
                    run = train(f"{name}-seed-{seed}", {**settings, "seed": seed, "preflight": False})
                except DivergedError:
                    return Outcome(gain=None, verdict=GIVEN_DIVERGED if name == given[0] else WINNER_DIVERGED)
                write_report(run)
                runs.append(run)
                bar.advance(note=run.name)
    return outcome_of(compare_runs(runs))


def outcome_of(found: Comparison) -> Outcome:
    """The gain of the second group over the first, in numbers and as text."""
    (pair,), (first, second) = found.pairs, found.groups
    gain = Gain(
        difference=pair.difference,
        low=pair.low,
        high=pair.high,
        p=pair.p,
        p_seeds=pair.p_seeds,
        seeds=len(second.runs),
        winner=second.score,
        given=first.score,
    )
    verdict = NOT_DISTINGUISHED
    if pair.verdict != SAME:
        verdict = DISTINGUISHED if pair.difference > 0 else WORSE
        verdict += "" if pair.compared == "methods" else ", as trained networks: one seed each"
    runs = tuple(Run(name) for group in found.groups for name in group.runs)
    return Outcome(gain=gain, verdict=verdict, runs=runs)
