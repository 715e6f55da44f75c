"""The plain values of a training in progress, which a checkpoint stores with its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from opsin.config.checks import from_dict
from opsin.errors import RunError

COUNTERS = (
    "step",
    "epoch",
    "epoch_start",
    "best_epoch",
    "stale_epochs",
    "threads",
    "seconds",
    "cpu_seconds",
    "budget_seconds",
    "lr",
)
"""Values that are 0 or more."""


@dataclass
class State:
    """The state of a training.

    `epoch`: epochs that have ended. `epoch_start`: step at which the present one began; an epoch that a budget in
    minutes cut off was shorter than the others. `budget_seconds`: training time at which such a budget ends.
    """

    step: int = 0
    epoch: int = 0
    epoch_start: int = 0
    lr: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    budget_seconds: float = 0.0
    best_score: float | None = None
    best_epoch: int = 0
    stale_epochs: int = 0
    accumulate: int = 1
    threads: int = 0
    stopped: str = ""
    sums: dict[str, float] = field(default_factory=dict)
    plateau: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)

    def take(self, other: State) -> None:
        """Copy the values of `other` into this state, in place."""
        vars(self).update(vars(other))

    def count(self, losses: Mapping[str, float], images: int) -> None:
        """Add the means of a step over `images` images to those of the epoch."""
        self.sums["count"] = self.sums.get("count", 0.0) + images
        for key, value in losses.items():
            self.sums[key] = self.sums.get(key, 0.0) + value * images

    def end_epoch(self) -> dict[str, float]:
        """Begin the next epoch; returns the means of the one that has ended."""
        sums, self.sums = self.sums, {}
        count = sums.pop("count", 1.0)
        self.epoch, self.epoch_start = self.epoch + 1, self.step
        return {key: value / count for key, value in sums.items()}


def state_of(values: Any, *, where: str) -> State:
    """The state in a checkpoint's plain values.

    Raises:
        RunError: they are not an object, or impossible values.
        ConfigError: a key is unknown or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise RunError(
            "the state of a checkpoint is not an object", where=where, got=type(values).__name__, expected="an object"
        )
    state = from_dict(State, values, where=where)
    negative = [name for name in COUNTERS if not 0 <= getattr(state, name) < math.inf]
    if negative or state.accumulate < 1 or state.epoch_start > state.step or state.best_epoch > state.epoch:
        got = {f.name: getattr(state, f.name) for f in fields(state) if f.name in (*COUNTERS, "accumulate")}
        raise RunError("the state of a checkpoint has impossible values", where=where, got=got)
    return state
