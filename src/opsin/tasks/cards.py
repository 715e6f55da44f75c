"""Task cards: facts of a task that need no PyTorch: name, scores, question. Reports read them.

A task is a package in `opsin.tasks` with a `card.py`; it needs no registration.

    tasks/NAME/
      card.py        CARD, a `TaskCard`: no torch
      task.py        TASK, a `base.Task`: target, head, loss, decoding, scores, drawings
      scores.py      its scores with intervals, and the details of its report
      defaults.py    default settings of its runs
      report.py      SECTIONS of its report, and its part of the overview; only the report package imports it
      templates/     of these sections
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from opsin import plugins
from opsin.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class ScoreKind:
    """The description of a score.

    `title`: its name in tables. `words`: its meaning, in one line. `higher_is_better`: direction. `share`:
    whether it is between 0 and 1 and shown as a percentage.
    """

    title: str
    words: str = ""
    higher_is_better: bool = True
    share: bool = True

    @property
    def short_title(self) -> str:
        """The title within a line: `accuracy`, `mean IoU`."""
        return self.title[:1].lower() + self.title[1:]


def loss_kind(title: str, words: str) -> ScoreKind:
    """A score for which lower is better, not a share."""
    return ScoreKind(title=title, words=words, higher_is_better=False, share=False)


ACCURACY = ScoreKind(title="Accuracy", words="images whose likeliest class is right")


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """Facts of a task that need no PyTorch.

    `main_score`: by which epochs are compared; first in reports; higher is better. `score_kinds`: all its
    scores, in the order of tables; `{good_iou}` is replaced by the setting of that name. `question`, `words`: the
    question it answers, and its description. `settings`: settings of this task only. `decides_class`: one class per
    image, by the `probabilities` of its predictions. `searched`, `searched_pretrained`: parameters searched by default,
    for new and for pretrained networks. `moves_freely`: images may be cropped at random without losing their target.
    """

    name: str
    main_score: str
    score_kinds: Mapping[str, ScoreKind]
    question: str
    words: str
    settings: tuple[str, ...] = field(default=())
    decides_class: bool = False
    moves_freely: bool = True
    searched: tuple[str, ...] = ("lr", "batch_size", "filters", "augment", "schedule")
    searched_pretrained: tuple[str, ...] = ("lr", "batch_size", "augment", "weight_decay", "backbone_lr")


@cache
def _built_in() -> tuple[str, ...]:
    return tuple(card.parent.name for card in Path(__file__).parent.glob("*/card.py"))


def task_names() -> tuple[str, ...]:
    """Names of all tasks, those of installed packages too (entry points `opsin.tasks`), in alphabetical order."""
    return tuple(sorted({*_built_in(), *plugins.names("tasks")}))


def package_of(name: str) -> str:
    """Name of the package that is a task.

    Raises:
        ConfigError: there is no such task, or a package that provides it cannot be imported.
    """
    if name in _built_in():
        return f"opsin.tasks.{name}"
    package = plugins.find("tasks", name)
    if package is None:
        close = nearest(name, task_names())
        do = f"did you mean `{close}`?" if close else "choose one of these"
        raise ConfigError("no such task", got=name, expected=", ".join(task_names()), do=do)
    return str(package.__name__)


def part_of(name: str, part: str) -> Any:
    """The module `part` of the package of a task.

    Raises:
        ConfigError: as `package_of`.
    """
    return import_module(f"{package_of(name)}.{part}")


def card_of(name: str) -> TaskCard:
    """The card of a task.

    >>> card_of("classify").main_score
    'accuracy'

    Raises:
        ConfigError: there is no such task.
    """
    card: TaskCard = part_of(name, "card").CARD
    return card


def main_score(task: str) -> str:
    """The score by which epochs of a task are compared; empty for a run without a recorded task."""
    return card_of(task).main_score if task in task_names() else ""


def score_kind(task: str, key: str) -> ScoreKind:
    """The description of a score; an unknown one is titled by its key.

    >>> score_kind("classify", "macro_f1").title, score_kind("classify", "new_score").title
    ('Macro F1', 'New score')
    """
    known = card_of(task).score_kinds if task in task_names() else {}
    return known.get(key, ScoreKind(title=key.replace("_", " ").capitalize()))
