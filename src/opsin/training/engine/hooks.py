"""Callbacks of a training, and the frozen values they receive.

    on_step    after each step       StepContext    losses are still on the device: reading one waits for it
    on_epoch   after each epoch      EpochContext   scored, logged, and kept if it is the best
    on_event   at each line of the run's log other than epochs: early_stop, memory_guard, interrupt, ...

The engine's own observers (progress bar, epoch lines, TensorBoard, moving average, thread watch) are callbacks like
those of users. User callbacks see the run and may stop it; changes they make to the network are their responsibility.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from opsin.errors import ConfigError
from opsin.types import JsonMapping

HOOKS = ("on_step", "on_epoch", "on_event")


@dataclass(frozen=True, kw_only=True, eq=False)
class StepContext:
    """A step that has just been taken.

    `step`: steps done, this one included. `epoch`: number of the epoch that it belongs to, from 0. `losses`: means over
    the batch, each a scalar on the device: "loss", its parts, and cheap scores; `float(...)` reads one. `lr`: learning
    rate of the step. `count`: images in the batch. `network`: as the step left it. `stop`: asks the run to end after
    this epoch's scores, and takes the reason.
    """

    step: int
    epoch: int
    losses: Mapping[str, Tensor]
    lr: float
    count: int
    network: nn.Module
    stop: Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochContext:
    """An epoch that has ended.

    `epoch`: epochs done, this one included. `num_epochs`: of the whole run, at most. `step`: steps done. `train`: mean
    losses and cheap scores of the epoch. `val`: scores on val; empty without that split. `best`: whether no epoch
    before had a better one. `seconds`: training time of the run so far. `epoch_seconds`: that of this epoch, scoring
    included. `record`: what the run's log holds of the epoch. `network`, `stop`: as in `StepContext`.
    """

    epoch: int
    num_epochs: int
    step: int
    train: Mapping[str, float]
    val: Mapping[str, float]
    best: bool
    lr: float
    seconds: float
    epoch_seconds: float
    record: JsonMapping = field(default_factory=dict)
    network: nn.Module
    stop: Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class EventContext:
    """A line of the run's log other than an epoch. `values`: its further fields."""

    name: str
    step: int
    message: str
    values: JsonMapping = field(default_factory=dict)


class Callback(Protocol):
    """Observes a training. Inherit from it and override the methods you need.

    An error raised by a callback ends the training like any other; the last checkpoint is kept.

    >>> class Losses(Callback):
    ...     def __init__(self) -> None:
    ...         self.seen: list[float] = []
    ...
    ...     def on_step(self, step: StepContext) -> None:
    ...         if step.step % 100 == 0:
    ...             self.seen.append(float(step.losses["loss"]))
    """

    def on_step(self, step: StepContext) -> None:
        """A step was taken."""
        return

    def on_epoch(self, epoch: EpochContext) -> None:
        """An epoch has ended."""
        return

    def on_event(self, event: EventContext) -> None:
        """Something else was logged."""
        return


def check_callbacks(callbacks: Sequence[object]) -> None:
    """Refuse invalid callbacks before the run begins.

    Raises:
        ConfigError: names the first that lacks a method.
    """
    expected = "an object with on_step, on_epoch and on_event"
    for place, callback in enumerate(callbacks):
        what, where = "a callback is invalid", f"callbacks[{place}]"
        if isinstance(callback, type):
            do = f"give an instance: {callback.__name__}()"
            raise ConfigError(what, where=where, got=f"the class {callback.__name__}", expected=expected, do=do)
        if any(not callable(getattr(callback, name, None)) for name in HOOKS):
            do = "let its class inherit from Callback, which has all three"
            raise ConfigError(what, where=where, got=type(callback).__name__, expected=expected, do=do)
