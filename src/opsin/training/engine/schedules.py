"""Learning-rate schedules: a factor of the peak rate as a function of progress.

Progress runs from 0 to 1 over the run, in steps or in minutes, whichever is further on; so that one formula serves both
`--epochs` and `--minutes`, and a resumed run continues where it stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from opsin.config import ScheduleName

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 0.04
STEP_POINTS = (0.5, 0.75)
STEP_FACTOR = 0.1


def schedule_factor(name: ScheduleName, progress: float, *, warmup: float = 0.0) -> float:
    """Factor of the peak learning rate, in [0, 1].

    `warmup` is the share of the run in which the rate first rises linearly from zero. `step` divides by ten after one
    half and three quarters. `one-cycle` brings its own rise and ignores `warmup`. `plateau` is constant here: its
    reductions depend on scores and are counted by `Plateau`.

    >>> schedule_factor("linear", 0.25), schedule_factor("cosine", 0.5), schedule_factor("step", 0.6)
    (0.75, 0.5, 0.1)

    Source: cosine: arXiv 1608.03983, equation 5 without restarts; one-cycle: arXiv 1708.07120.
    """
    if name == "one-cycle":
        return _one_cycle(progress)
    if progress < warmup:
        return progress / warmup
    after = (progress - warmup) / (1 - warmup)
    if name == "linear":
        return max(1 - after, 0.0)
    if name == "cosine":
        return _cosine(after)
    if name == "step":
        return STEP_FACTOR ** sum(after >= point for point in STEP_POINTS)
    return 1.0


def _cosine(progress: float) -> float:
    return round(0.5 * (1 + math.cos(math.pi * min(progress, 1.0))), 12)


def _one_cycle(progress: float) -> float:
    if progress < ONE_CYCLE_RISE:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - _cosine(progress / ONE_CYCLE_RISE))
    return _cosine((progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))


@dataclass
class Plateau:
    """Halves the learning rate when the val loss has not fallen for `patience` epochs."""

    patience: int = 3
    factor: float = 1.0
    best: float | None = None
    stale: int = 0

    def see(self, loss: float) -> None:
        """Record the val loss of one more epoch."""
        if self.best is None or loss < self.best:
            self.best, self.stale = loss, 0
            return
        self.stale += 1
        if self.stale >= self.patience:
            self.factor, self.stale = self.factor / 2, 0
