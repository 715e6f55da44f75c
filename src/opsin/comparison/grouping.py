"""Runs that are compared, collected into groups: by their settings, or by names that are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from opsin.comparison.outcomes import Outcomes
from opsin.config import to_dict
from opsin.errors import ConfigError
from opsin.runs import Run
from opsin.types import JsonDict

NOT_COMPARED = (
    "task",
    "train.seed",
    "train.threads",
    "train.device",
    "train.preflight",
    "train.keep_memory",
    "train.tensorboard",
    "train.checkpoint_minutes",
    "train.checkpoint_activations",
)
"""Settings in which runs of one group may differ: they affect results no more than a seed does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Collected:
    """Runs of one group, with their outcomes."""

    runs: list[Run]
    outcomes: list[Outcomes]
    settings: dict[str, Any]

    @property
    def parts(self) -> list[Any]:
        return [found.parts for found in self.outcomes]

    @property
    def scores(self) -> list[float]:
        return [found.value for found in self.outcomes]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.config.train.seed for run in self.runs)


def grouped(runs: Sequence[Run], outcomes: Sequence[Outcomes]) -> list[Collected]:
    """The groups, in the order of their first runs.

    Runs of one seed and one setting are not independent draws: as seeds of one group they would make its interval too
    narrow. So the second one forms another group, and is compared with the first.
    """
    groups: list[Collected] = []
    for run, found in zip(runs, outcomes, strict=True):
        settings, seed = flat_settings(run), run.config.train.seed
        alike = (group for group in groups if group.settings == settings)
        same = next((group for group in alike if seed not in group.seeds), None)
        if same is None:
            groups.append(Collected(runs=[run], outcomes=[found], settings=settings))
        else:
            same.runs.append(run)
            same.outcomes.append(found)
    return groups


def grouped_by_name(runs: Sequence[Run], outcomes: Sequence[Outcomes], names: Sequence[str]) -> list[Collected]:
    """The groups as they were named, in the order of their first runs."""
    if len(names) != len(runs):
        raise ConfigError("a name of a group for each run", got=len(names), expected=len(runs))
    groups: dict[str, Collected] = {}
    for name, run, found in zip(names, runs, outcomes, strict=True):
        group = groups.setdefault(name, Collected(runs=[], outcomes=[], settings=flat_settings(run)))
        if run.config.train.seed in group.seeds:
            what = "two runs of one seed are no independent draws of a group"
            raise ConfigError(
                what, where=name, got=f"seed {run.config.train.seed} twice", do="give each run another seed"
            )
        group.runs.append(run)
        group.outcomes.append(found)
    return list(groups.values())


def flat_settings(run: Run) -> dict[str, Any]:
    """Settings of a run by dotted names, without those of `NOT_COMPARED`; the path of its data is not a setting.

    An ensemble has the settings of its first member, and its members.
    """
    summary = run.summary
    made_of = {"kind": summary.kind, "members": summary.members}
    flat: JsonDict = {f"ensemble.{key}": value for key, value in made_of.items() if value is not None}

    def walk(prefix: str, values: JsonDict) -> None:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict):
                walk(f"{name}.", value)
            elif name not in (*NOT_COMPARED, "root"):
                flat[name] = value

    walk("", to_dict(run.config))
    return flat


def names_of(groups: Sequence[Collected]) -> list[str]:
    """The name of a group: the common part of its runs' names.

    If that is empty or not unique: the name, then the path, of its first run.
    """
    ways: tuple[Callable[[Collected], str], ...] = (
        _common_name,
        lambda group: group.runs[0].name,
        lambda group: str(group.runs[0].path),
    )
    names = [""] * len(groups)
    for way in ways:
        found = [name or way(group) for name, group in zip(names, groups, strict=True)]
        names = [name if found.count(name) == 1 else "" for name in found]
    return names


def _common_name(group: Collected) -> str:
    names = [run.name for run in group.runs]
    if len(names) == 1:
        return names[0]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike).rstrip("-_.")
