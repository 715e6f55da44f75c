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

import math
from collections.abc import Callable, Mapping
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

    `title`: its name in tables. `words`: what it says, in a line. `higher_is_better`: which way is better. `share`:
    whether it is shown as a percentage. `bounded`: whether such a score cannot leave 0 to 1.
    """

    title: str
    words: str = ""
    higher_is_better: bool = True
    share: bool = True
    bounded: bool = True

    @property
    def short_title(self) -> str:
        """The title within a line: `accuracy`, `mean IoU`."""
        return self.title[:1].lower() + self.title[1:]


def loss_kind(title: str, words: str) -> ScoreKind:
    """A score for which lower is better, not a share."""
    return ScoreKind(title=title, words=words, higher_is_better=False, share=False)


def one_of(num_outputs: int) -> tuple[float, str]:
    """The loss per sample of a network that finds all of K classes equally likely, and what that is in words.

    >>> one_of(2)[1]
    'ln 2'
    """
    return math.log(max(2, num_outputs)), f"ln {max(2, num_outputs)}"


ACCURACY = ScoreKind(title="Accuracy", words="images whose likeliest class is right")


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """Facts of a task that need no PyTorch.

    `main_score`: by which epochs are compared and reports open; higher is better. `score_kinds`: every score that it
    can give, in the order of tables; `{good_iou}` stands for the setting of that name. `question`, `words`: what it
    answers, and with what. `settings`: those that it alone has. `decides_class`: one class is decided for each image,
    by the `probabilities` of its predictions. `searched`, `searched_pretrained`: what a search varies by default,
    of new and of pretrained networks. `moves_freely`: images may be cropped at random without losing their target.
    `first_loss`: from the number of classes or numbers to the loss per sample of a network that knows nothing, and what
    that is in words. `part_score`: the main score of one class or number, in the rows of the details. `hub_tag`: what
    the Hugging Face hub calls such a task; None where it has no word for it.
    """

    name: str
    main_score: str
    score_kinds: Mapping[str, ScoreKind]
    question: str
    words: str
    settings: tuple[str, ...] = field(default=())
    decides_class: bool = False
    moves_freely: bool = True
    first_loss: Callable[[int], tuple[float, str]] = one_of
    part_score: str = "recall"
    hub_tag: str | None = None
    searched: tuple[str, ...] = ("lr", "batch_size", "filters", "augment", "schedule")
    searched_pretrained: tuple[str, ...] = ("lr", "batch_size", "augment", "weight_decay", "backbone_lr")


@cache
def built_in_names() -> tuple[str, ...]:
    """Names of the tasks that come with Opsin, in alphabetical order."""
    return tuple(sorted(card.parent.name for card in Path(__file__).parent.glob("*/card.py")))


def task_names() -> tuple[str, ...]:
    """Names of all tasks, those of installed packages too (entry points `opsin.tasks`), in alphabetical order."""
    return tuple(sorted({*built_in_names(), *plugins.names("tasks")}))


def package_of(name: str) -> str:
    """Name of the package that is a task.

    Raises:
        ConfigError: there is no such task, or a package that provides it cannot be imported.
    """
    if name in built_in_names():
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
