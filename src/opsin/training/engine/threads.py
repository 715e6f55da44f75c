"""The number of threads of a run: all cores, unless other processes keep them busy.

Threads add up the parts of a sum, so their number changes the last bits of every weight. A quiet machine therefore
always takes all cores, without a measurement. Where other work is seen, fewer threads are timed, and taken if they are
clearly faster; a run that becomes slow measures again. Every choice is printed and recorded, and a resumed run keeps
it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from opsin.config import TrainConfig
from opsin.training.engine.hooks import Callback, EpochContext, EventContext, StepContext
from opsin.types import JsonDict

BUSY_CORES = 0.3
"""Cores kept busy by others from which on fewer threads may be faster."""
CLEARLY_FASTER = 1.25
"""Fewer threads must be this much faster: two equal runs should not differ by chance."""
TIMED_STEPS, TIMED_S = 2, 0.6
"""Least steps and seconds of each timing: under other load step times vary."""
WINDOW_STEPS, WINDOW_S = 4, 10.0
"""Least steps and seconds over which the pace is measured."""
COLLAPSED = 1.5
"""Slowdown against the fastest window that triggers a new measurement."""
FIRST_PAUSE_S = 30.0
"""Seconds before a run measures again; doubled each time."""
SET_BY_HAND = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

MakeStep = Callable[[], Callable[[], object]]
"""Makes a function that trains one step on a throw-away copy of the network."""


class OtherWork:
    """Number of cores kept busy by other processes, of those available to this one."""

    def __init__(self) -> None:
        self._before = _sample()

    def cores(self) -> float | None:
        """Cores kept busy since the last look; None where the system does not say (it does on Linux)."""
        before, self._before = self._before, _sample()
        if before is None or self._before is None:
            return None
        seconds, busy, own = (now - then for now, then in zip(self._before, before, strict=True))
        return max(0.0, busy - own) / seconds if seconds > 0 else 0.0


def _sample() -> tuple[float, float, float] | None:
    """Seconds on the wall, of this machine's processors, and of them in this process.

    Source: proc_stat(5), https://man7.org/linux/man-pages/man5/proc_stat.5.html
    """
    statistics = Path("/proc/stat")
    if sys.platform != "linux" or not statistics.is_file():
        return None
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    rows = [line.split() for line in statistics.read_text().splitlines()]
    # user, nice, system, irq, softirq, steal
    ticks = sum(int(row[i]) for row in rows if row and row[0] in ours for i in (1, 2, 3, 6, 7, 8))
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()


@dataclass(frozen=True, kw_only=True)
class ThreadChoice:
    """A number of threads and why: cores that others kept busy (None: not known), and steps/s by number of threads."""

    threads: int
    busy_cores: float | None = None
    timings: tuple[JsonDict, ...] = ()

    def record(self) -> JsonDict:
        """As environment.json and the log hold it."""
        busy = None if self.busy_cores is None else round(self.busy_cores, 2)
        return {"threads": self.threads, "busy_cores": busy, "thread_timings": list(self.timings)}


def is_open(config: TrainConfig, device: torch.device, most: int) -> bool:
    """Whether the number of threads is to be chosen; with compilation, all cores are used."""
    by_hand = config.threads > 0 or any(name in os.environ for name in SET_BY_HAND)
    return device.type == "cpu" and not by_hand and not config.compile and most > 1


def choose(most: int, make_step: MakeStep, busy_cores: float | None) -> ThreadChoice:
    """The most threads, or fewer if other processes are busy and fewer are clearly faster; the choice is set.

    Args:
        most: threads on a quiet machine.
        make_step: for the timing.
        busy_cores: cores that others keep busy; None if that is not known, which is timed too.
    """
    if busy_cores is not None and busy_cores < BUSY_CORES:
        torch.set_num_threads(most)
        return ThreadChoice(threads=most, busy_cores=busy_cores)
    candidates = sorted({most, most - 1, most // 2, 1} - {0}, reverse=True)
    step = make_step()
    rates = {threads: _steps_per_second(step, threads) for threads in candidates}
    fastest = max(rates, key=lambda threads: rates[threads])
    threads = fastest if rates[fastest] > CLEARLY_FASTER * rates[most] else most
    torch.set_num_threads(threads)
    timings = tuple({"threads": n, "steps_per_second": round(rate, 3)} for n, rate in rates.items())
    return ThreadChoice(threads=threads, busy_cores=busy_cores, timings=timings)


def _steps_per_second(step: Callable[[], object], threads: int) -> float:
    torch.set_num_threads(threads)
    step()
    began, count = time.monotonic(), 0
    while count < TIMED_STEPS or time.monotonic() - began < TIMED_S:
        step()
        count += 1
    return count / max(time.monotonic() - began, 1e-9)


def reason(choice: ThreadChoice, most: int) -> str:
    """The reason for the number of threads, as a message."""
    if choice.threads == most:
        return f"{counted(most)}: other work has ended; bits may differ from those with fewer"
    busy = "" if choice.busy_cores is None else f"other work keeps {choice.busy_cores:.1f} cores busy: "
    rates = ", ".join(f"{t['steps_per_second']:.2g} with {t['threads']}" for t in choice.timings)
    return (
        f"{busy}{counted(choice.threads)} instead of {most} ({rates} steps/s); "
        f"bits may differ from those with {most}, `--threads {most}` uses all of them"
    )


def counted(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{threads} thread" + ("s" if threads > 1 else "")


@dataclass
class ThreadWatch(Callback):
    """Watches the pace of a run, and chooses the number of threads again when it drops or other load ends.

    Args:
        most: threads on a quiet machine.
        chosen: at the start of the run.
        make_step: for the timing; on the network in its current state.
        changed: called with each new choice.
        other_work: of other processes.
    """

    most: int
    chosen: ThreadChoice
    make_step: MakeStep
    changed: Callable[[ThreadChoice], None]
    other_work: OtherWork = field(default_factory=OtherWork)
    fastest: float = float("inf")
    pause: float = FIRST_PAUSE_S
    _watching: bool = False
    _steps: int = 0
    _seconds: float = 0.0
    _last: float = field(default_factory=lambda: time.monotonic())
    _chosen_at: float = field(default_factory=lambda: time.monotonic())

    def on_step(self, step: StepContext) -> None:
        if self._watching:
            self.stepped()
        else:  # the first step began long after construction
            self.begin()

    def on_epoch(self, epoch: EpochContext) -> None:
        self.begin()

    def on_event(self, event: EventContext) -> None:
        self.begin()

    def begin(self) -> None:
        """Start timing steps from here: earlier work, e.g. scoring, does not count."""
        self._watching, self._last = True, time.monotonic()

    def stepped(self) -> None:
        """A step has ended."""
        now = time.monotonic()
        self._steps, self._seconds, self._last = self._steps + 1, self._seconds + now - self._last, now
        if self._steps < WINDOW_STEPS or self._seconds < WINDOW_S:
            return
        pace, self._steps, self._seconds = self._seconds / self._steps, 0, 0.0
        busy = self.other_work.cores()
        if now - self._chosen_at > self.pause and (self._collapsed(pace, busy) or self._relieved(busy)):
            self._choose(busy)
        else:
            self.fastest = min(self.fastest, pace)

    def _collapsed(self, pace: float, busy: float | None) -> bool:
        return pace > COLLAPSED * self.fastest and (busy is None or busy >= BUSY_CORES)

    def _relieved(self, busy: float | None) -> bool:
        return self.chosen.threads < self.most and busy is not None and busy < BUSY_CORES

    def _choose(self, busy: float | None) -> None:
        before, self.chosen = self.chosen, choose(self.most, self.make_step, busy)
        self.fastest, self.pause = float("inf"), 2 * self.pause
        self._last = self._chosen_at = time.monotonic()
        if self.chosen.threads != before.threads:
            self.changed(self.chosen)
