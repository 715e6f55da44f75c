"""What a setting is where nobody says it, in words for `--help`: one value, or one for each kind of data. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from opsin.tasks.cards import built_in_names, part_of
from opsin.types import Layer

LONGEST = 3
"""Kinds of data that are named for one value; of more, their number is told."""


def default_words(setting: str, plain: Any) -> str:
    """The defaults of a setting.

    Args:
        setting: its name.
        plain: its default where no task and no data set has another.

    Returns:
        "" where it is off, or is found out from the data alone.

    >>> default_words("val_fraction", 0.1)
    '0.1; 0.0833 for mnist; 0.05 for cifar10 and cifar100'
    >>> default_words("seed", 0), default_words("subset", None)
    ('0', '')
    """
    groups: dict[str, list[str]] = {}
    for label, value in _labelled(setting, plain):
        if value is not None:
            groups.setdefault(_written(value), []).append(label)
    usual = _written(plain) if plain is not None else ""
    rest = [f"{value} for {_listed(labels)}" for value, labels in groups.items() if value != usual]
    shown = [usual] if usual and (usual in groups or not groups) else []
    if not shown and len(groups) == 1:
        return next(iter(groups)) if all(value is not None for _, value in _labelled(setting, plain)) else rest[0]
    return "; ".join([*shown, *rest])


def _labelled(setting: str, plain: Any) -> list[tuple[str, Any]]:
    """Kinds of data with their values; where tasks differ on a kind, those that are not like most are named."""
    found: dict[str, Layer] = {}
    for task, kinds in _shown().items():
        for kind, settings in kinds.items():
            found.setdefault(kind, {})[task] = settings.get(setting, plain)
    rows: list[tuple[str, Any]] = []
    for kind, values in found.items():
        usual, _ = Counter(map(_written, values.values())).most_common(1)[0]
        rows.append((kind, next(value for value in values.values() if _written(value) == usual)))
        rows += [(f"{kind} ({task})", value) for task, value in values.items() if _written(value) != usual]
    return rows


@cache
def _shown() -> Mapping[str, Mapping[str, Mapping[str, object]]]:
    """By task and kind of data, the settings of a run."""
    return {name: part_of(name, "defaults").shown_defaults() for name in built_in_names()}


def _listed(labels: list[str]) -> str:
    """Labels in words.

    >>> _listed(["photos"]), _listed(["photos", "mnist"]), _listed(list("abcdef"))
    ('photos', 'photos and mnist', 'a, b, c and 3 more')
    """
    if len(labels) > LONGEST + 1:
        return f"{', '.join(labels[:LONGEST])} and {len(labels) - LONGEST} more"
    return " and ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else labels)


def _written(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.3g}"
    return ",".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)
