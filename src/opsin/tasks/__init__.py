"""Tasks: a package each, behind one interface (`base.Task`). A package here with a card is a task (`cards`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from opsin.tasks.cards import ScoreKind, card_of, part_of, task_names

if TYPE_CHECKING:
    from opsin.tasks.base import Drawing, Task
    from opsin.tasks.targets import Targets

__all__ = ["Drawing", "ScoreKind", "Targets", "Task", "card_of", "get_task", "plain_task", "task_names"]
_HOMES = {"Drawing": "base", "Targets": "targets", "Task": "base"}
"""Modules of names that need NumPy and more, and so are imported late; reports only need cards."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'opsin.tasks' has no attribute '{name}'")
    return getattr(import_module(f"opsin.tasks.{_HOMES[name]}"), name)


def get_task(name: str) -> Task:
    """The task of that name.

    >>> get_task("classify").main_score
    'accuracy'

    Raises:
        ConfigError: there is no such task.
    """
    task: Task = part_of(name, "task").TASK
    return task


def plain_task() -> Task:
    """The default task: one class per image."""
    return next(task for task in map(get_task, task_names()) if task.one_class)
