"""Tasks: one file each, behind one interface (`base.Task`)."""

from __future__ import annotations

from typing import cast

from opsin import plugins
from opsin.errors import ConfigError, nearest
from opsin.score_kinds import ScoreKind
from opsin.tasks.base import Drawing, Targets, Task
from opsin.tasks.classify import Classify
from opsin.tasks.localize import Localize
from opsin.tasks.segment import Segment

__all__ = ["Classify", "Drawing", "Localize", "ScoreKind", "Segment", "Targets", "Task", "get_task"]

_TASKS: dict[str, Task] = {"classify": Classify(), "localize": Localize(), "segment": Segment()}


def get_task(name: str) -> Task:
    """The task of that name.

    >>> get_task("classify").main_score
    'accuracy'

    Raises:
        ConfigError: there is no such task.
    """
    if name not in _TASKS and (registered := plugins.find("tasks", name)) is not None:
        return cast("Task", registered)
    if name not in _TASKS:
        close = nearest(name, _TASKS)
        do = f"did you mean `{close}`?" if close else None
        raise ConfigError("no such task", got=name, expected=", ".join(_TASKS), do=do)
    return _TASKS[name]
