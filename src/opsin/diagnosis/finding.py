"""Findings of the doctor: the fault, its severity, the evidence, and the remedy. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from opsin.types import JsonDict, JsonMapping

Severity = Literal["error", "warning", "info"]
"""error: the score is meaningless, or the run is lost; warning: a better score is likely; info: worth knowing."""
RANK: Mapping[str, int] = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points (x, y) under a name; `role` is the colour: train, val, test or plain."""

    name: str
    role: Literal["train", "val", "test", "plain"]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value under a name, with its interval where there is one; `marked` is the one of the finding."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    marked: bool = False


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The evidence as a small figure: lines over epochs, or bars. Values are shares where `share`."""

    title: str
    series: tuple[Series, ...] = ()
    bars: tuple[Bar, ...] = ()
    share: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault of a run.

    `check`: name of the check that found it. `evidence`: numbers, in a sentence. `remedy`: what to do, with the option.
    """

    check: str
    severity: Severity
    evidence: str
    remedy: str
    figure: Figure | None = None

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        return asdict(self)


def finding_from_json(entry: JsonMapping) -> Finding:
    """The inverse of `Finding.to_json`.

    Raises:
        KeyError, TypeError: it is not a finding.
    """
    figure = entry.get("figure")
    return Finding(**{**entry, "figure": None if figure is None else _figure(figure)})


def by_severity(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Most severe first; stable."""
    return tuple(sorted(findings, key=lambda finding: RANK[finding.severity]))


def _figure(entry: JsonMapping) -> Figure:
    series = tuple(Series(**{**one, "points": tuple((x, y) for x, y in one["points"])}) for one in entry["series"])
    return Figure(
        title=entry["title"], series=series, bars=tuple(Bar(**bar) for bar in entry["bars"]), share=entry["share"]
    )
