"""A budget of minutes by the clock on the wall: everything between its beginning and the report counts."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FINISH_S = 3.0
"""Seconds kept for the artefact, the gallery and the report."""
LARGEST_RESERVE = 0.3
"""Share of a budget that may be kept for its end: something is to be trained in the shortest, too."""
LEAST_TRAINED = 0.03
"""Share of a budget that is trained even where the start has used all of it: a run without a step is worth nothing."""
SHARE_KEPT = 0.02
"""Share of a budget that is kept because no forecast is exact."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Seconds on the wall from `began`, a reading of `time.monotonic`."""

    seconds: float
    began: float

    def left(self) -> float:
        """Seconds until the budget ends; below zero afterwards."""
        return self.began + self.seconds - time.monotonic()

    def for_training(self, scoring_s: float) -> float:
        """Seconds that may yet be trained, so that `scoring_s` seconds of scoring and the report fit in as well."""
        reserve = min(scoring_s + FINISH_S + SHARE_KEPT * self.seconds, LARGEST_RESERVE * self.seconds)
        return max(self.left() - reserve, 0.0)

    @property
    def least_s(self) -> float:
        """Seconds that are trained even where everything before has used the budget up."""
        return LEAST_TRAINED * self.seconds


def process_began() -> float:
    """When this process began, as `time.monotonic` would have read; now, where the system does not tell.

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
