"""A wall-clock budget in minutes: everything from its start to the report counts."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FINISH_S = 3.0
"""Seconds kept for the artefact, the gallery and the report."""
LARGEST_RESERVE = 0.3
"""Largest share of a budget reserved for its end, so that even the shortest one trains something."""
LEAST_TRAINED = 0.03
"""Share of a budget that is trained even where start-up has used it up: a run without a step is worthless."""
SHARE_KEPT = 0.02
"""Share of a budget reserved for errors of the forecast."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Wall-clock seconds from `began`, a value of `time.monotonic`."""

    seconds: float
    began: float

    def left(self) -> float:
        """Seconds until the budget ends; below zero afterwards."""
        return self.began + self.seconds - time.monotonic()

    def for_training(self, scoring_s: float) -> float:
        """Seconds left for training, after `scoring_s` seconds of scoring and the report."""
        reserve = min(scoring_s + FINISH_S + SHARE_KEPT * self.seconds, LARGEST_RESERVE * self.seconds)
        return max(self.left() - reserve, 0.0)

    @property
    def least_s(self) -> float:
        """Seconds that are trained even if start-up has used the budget up."""
        return LEAST_TRAINED * self.seconds


def process_began() -> float:
    """Start of this process as a value of `time.monotonic`; now, where the system does not say.

    Source: proc_pid_stat(5): field 22, in clock ticks since boot.
    """
    now = time.monotonic()
    if not sys.platform.startswith("linux"):
        return now
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return now
    return now - max(age, 0.0)
