"""Plugins: networks, layouts and tasks that a program registers, or an installed package by entry points.

    [project.entry-points."opsin.models"]
    my_net = "my_package.networks:build"

A network is a function that builds it, a layout a function of a path, a task a package as those in `opsin.tasks` are.
Names in a run folder or config are never imported: a part is found by name among those the user has
installed or registered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from opsin.errors import ConfigError

Group = Literal["models", "layouts", "tasks"]

_registered: dict[Group, dict[str, Any]] = {"models": {}, "layouts": {}, "tasks": {}}


def register(group: Group, name: str, part: Callable[..., Any] | Any) -> None:
    """Make `part` known by `name` in this process, in place of an earlier part of that name.

    Raises:
        ConfigError: the name is empty or has spaces in it.
    """
    if not name or any(character.isspace() for character in name):
        raise ConfigError("invalid name of a part", got=repr(name), expected="a name without spaces")
    _registered[group][name] = part


def names(group: Group) -> list[str]:
    """Names of all parts of a group, registered ones first."""
    return list(dict.fromkeys([*_registered[group], *(point.name for point in _points(group))]))


def find(group: Group, name: str) -> Any | None:
    """The part of that name, or None. Registered parts take precedence over installed ones.

    Raises:
        ConfigError: an installed package names a part that cannot be imported.
    """
    if name in _registered[group]:
        return _registered[group][name]
    point = next((point for point in _points(group) if point.name == name), None)
    if point is None:
        return None
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        do = "repair or remove the package that provides it"
        raise ConfigError(
            "an entry point cannot be imported", where=f"opsin.{group}: {name}", got=f"{point.value}: {error}", do=do
        ) from error


@cache
def _points(group: Group) -> tuple[EntryPoint, ...]:
    """Entry points of installed packages; cached, as the search takes 10 ms."""
    return tuple(sorted(entry_points(group=f"opsin.{group}"), key=lambda point: point.name))
