"""Kills a search with SIGKILL at random moments, goes on with it, and compares it with an unbroken one.

A program (`scripts/faults-study`), and functions for the tests beside it. After each kill the same command is started
again, until the study was killed often enough; then it is left to finish. What counts: every trial is there once, with
the values, the epochs and the score that it has in the study that nobody disturbed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opsin.config import RunConfig
from opsin.studies.search import JOURNAL, Search, Trial

MAX_SECONDS = 900
SETTINGS = (
    *("--model", "plain", "--filters", "8", "--batch-size", "64", "--optimizer", "adam", "--lr", "0.003"),
    *("--precision", "float32", "--channels-last", "--threads", "1", "--no-preflight"),
    *("--search", "lr,filters,augment,dropout", "--seeds", "1", "--checkpoint-minutes", "0.001"),
)
SHORT = ("--epochs", "3", "--subset", "train=300")
LONGER = ("--epochs", "8", "--subset", "train=1000")
NAME = "study"


@dataclass
class Outcome:
    """A study that was killed: `kills` that hit, and its `trials` at the end."""

    kills: int = 0
    trials: list[Trial] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)


def start(out: Path, num_trials: int, settings: Sequence[str]) -> subprocess.Popen[str]:
    """Start a process on the study in `out`."""
    places = ["tune", "digits", "--trials", str(num_trials), "--name", NAME, "--runs", str(out), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "opsin", *places, *SETTINGS, *settings],
        env=os.environ | {"OPSIN_CACHE": str(out.parent / "cache"), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a process that has to succeed."""
    _, messages = process.communicate(timeout=MAX_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode} of {process.args!r}\n{messages}")


def trials_of(out: Path) -> list[Trial]:
    """The trials that the journal of the study in `out` tells of."""
    return Search(out / NAME, (), first={}, seed=0, epochs=RunConfig().train.epochs).trials()


def unbroken(out: Path, num_trials: int, settings: Sequence[str]) -> tuple[list[Trial], float]:
    """A study that nobody disturbs, and its seconds."""
    began = time.monotonic()
    finish(start(out, num_trials, settings))
    return trials_of(out), time.monotonic() - began


def kill_after(out: Path, num_trials: int, settings: Sequence[str], *, epochs: int) -> int:
    """Start a process on the study in `out`, and kill it when its journal tells of so many epochs more.

    Returns the exit code: 0 where the process had ended before.
    """
    process, journal = start(out, num_trials, settings), out / NAME / JOURNAL
    before = _epochs_in(journal)
    while process.poll() is None and _epochs_in(journal) < before + epochs:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    return process.returncode


def _epochs_in(journal: Path) -> int:
    return journal.read_bytes().count(b"intermediate_value") if journal.is_file() else 0


def broken(
    out: Path, num_trials: int, settings: Sequence[str], *, kills: int, seconds: float, rng: random.Random
) -> Outcome:
    """A study that is killed `kills` times, at moments of up to `seconds` after the start, then left to finish."""
    outcome = Outcome()
    while outcome.kills < kills:
        process = start(out, num_trials, settings)
        moment = rng.uniform(0.3, 1.0) * seconds
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
        _, messages = process.communicate()
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"exit code {process.returncode} of {process.args!r}\n{messages}")
        outcome.kills += 1
        outcome.moments.append(moment)
    finish(start(out, num_trials, settings))
    outcome.trials = trials_of(out)
    return outcome


def differences(whole: Sequence[Trial], found: Sequence[Trial]) -> list[str]:
    """In what the trials of two studies differ, in words; empty where they are the same."""
    said = []
    if [trial.number for trial in found] != list(range(len(whole))):
        said.append(f"trials {[trial.number for trial in found]} instead of {len(whole)}")
    for one, other in zip(whole, found, strict=False):
        for name in ("state", "values", "score", "curve"):
            a, b = getattr(one, name), getattr(other, name)
            if a != b and not (a != a and b != b):  # NaN is no number, and equal here
                said.append(f"trial {one.number}, {name}: {a} and {b}")
    return said


def main() -> int:
    """Parse, run, and exit with 3 when a trial was lost, counted twice, or came out otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="SIGKILLs that hit (10)")
    parser.add_argument("--trials", type=int, default=8, help="trials of the study (8)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        whole, seconds = unbroken(place / "unbroken", arguments.trials, LONGER)
        print(f"unbroken study: {len(whole)} trials in {seconds:.1f} s", flush=True)
        rng = random.Random(arguments.seed)
        found = broken(place / "broken", arguments.trials, LONGER, kills=arguments.kills, seconds=seconds / 3, rng=rng)
        said = differences(whole, found.trials)
    print(f"killed {found.kills} times, after {', '.join(f'{moment:.1f}' for moment in found.moments)} s")
    states = [trial.state for trial in found.trials]
    print(f"{len(states)} trials: {', '.join(f'{states.count(name)} {name}' for name in sorted(set(states)))}")
    print("\n".join(said) if said else "the same trials, values, epochs and scores as the unbroken study")
    return 3 if said or found.kills < arguments.kills else 0


if __name__ == "__main__":
    sys.exit(main())
