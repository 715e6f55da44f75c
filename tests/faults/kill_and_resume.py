"""Kills a training at random moments, resumes it, and compares its weights with those of an unbroken run.

A program (`scripts/faults`), and functions for the tests beside it. A kill is SIGKILL: no code can react.
Moments are drawn from the seed, every other one over all that is left of the run (imports, packing, final files), the
rest over its training alone (steps, checkpoint writes). After each kill the run is started again with `--resume` and
killed at its next moment, until it has finished or was killed often enough; then it is left to finish.
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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from opsin.runs import Run

WEIGHTS = Path("model") / "weights.safetensors"
MAX_SECONDS = 600
DEFAULT_SETTINGS = ("--epochs", "6", "--precision", "float32", "--channels-last", "--threads", "1")
"""Short, and with nothing left to be timed: a choice between equally fast formats could differ between two machines."""
LONGER_SETTINGS = ("--epochs", "80", *DEFAULT_SETTINGS[2:])
"""For the program: long enough for most kills to find a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Unbroken:
    """A run that nobody disturbs: the bytes of its weights, its steps, its seconds, and those before its first step."""

    weights: bytes
    steps: int
    seconds: float
    before: float


@dataclass
class Trial:
    """A run that was killed and resumed.

    Args:
        kills: moments of the kills that hit, in seconds after the start of the process.
        resumed: step at which each resumption began, as the log tells.
        epochs: numbers of the epochs in the log, each of which belongs there once.
        weights: bytes of the final weights.
    """

    kills: list[float] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    weights: bytes = b""


def command(out: Path, name: str, settings: Sequence[str], *, resume: bool) -> list[str]:
    """The command line of one training."""
    places = ["train", "digits", "--name", name, "--out", str(out), "--checkpoint-minutes", "0.002", "--quiet"]
    return [sys.executable, "-m", "opsin", *places, *settings, *(["--resume"] if resume else [])]


def environment(out: Path) -> dict[str, str]:
    """The child's environment: a cache of its own beside the runs."""
    return os.environ | {"OPSIN_CACHE": str(out / "cache"), "OMP_NUM_THREADS": "1"}


def start(out: Path, name: str, settings: Sequence[str], *, resume: bool = False) -> subprocess.Popen[str]:
    """Start one training; its messages go into a pipe."""
    return subprocess.Popen(
        command(out, name, settings, resume=resume),
        env=environment(out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def unbroken(out: Path, settings: Sequence[str]) -> Unbroken:
    """Train without a disturbance."""
    began = time.monotonic()
    finish(start(out, "unbroken", settings))
    seconds, run = time.monotonic() - began, Run(out / "unbroken")
    before = seconds_before_training(run, seconds)
    return Unbroken(
        weights=(run.path / WEIGHTS).read_bytes(), steps=last_step(run.path), seconds=seconds, before=before
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a training that has to succeed."""
    _, messages = process.communicate(timeout=MAX_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode} of {process.args!r}\n{messages}")


def broken(out: Path, name: str, settings: Sequence[str], moments: Iterable[float]) -> Trial:
    """A run that is killed at each of `moments` in turn, counted from the start of its process, then left to finish.

    Each moment is asked for when the kill before it has hit; one that comes after the run's end is the last.
    """
    trial = Trial()
    folder = out / name
    for moment in moments:
        process = start(out, name, settings, resume=folder.exists())
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
        _, messages = process.communicate()
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"exit code {process.returncode} of {process.args!r}\n{messages}")
        trial.kills.append(moment)
    finish(start(out, name, settings, resume=folder.exists()))
    log = Run(folder).log
    trial.resumed = [row["step"] for row in log if row["event"] == "resume"]
    trial.epochs = [row["epoch"] for row in log if row["event"] == "epoch"]
    trial.weights = (folder / WEIGHTS).read_bytes()
    return trial


def draw_moments(rng: random.Random, count: int, whole: Unbroken, folder: Path) -> Iterator[float]:
    """`count` moments of the processes that train the run in `folder`, each within what is left of it by then."""
    for i in range(count):
        left = (whole.seconds - whole.before) * (1 - last_step(folder) / whole.steps)
        yield rng.uniform(whole.before if i % 2 else 0.0, whole.before + left)


def last_step(folder: Path) -> int:
    """The last step that the log of the run in `folder` tells of; 0 where there is none."""
    log = Run(folder).log if (folder / "config.json").is_file() else []
    return max((row["step"] for row in log if "step" in row), default=0)


def seconds_before_training(run: Run, seconds: float) -> float:
    """How long a process that lived `seconds` took to its first step, by the stamps in its log."""
    stamps = {
        row["event"]: datetime.fromisoformat(row["time"]) for row in run.log if row["event"] in ("start", "finish")
    }
    return max(0.0, seconds - (stamps["finish"] - stamps["start"]).total_seconds())


def run_trials(kills: int, per_run: int, seed: int, settings: Sequence[str], out: Path) -> int:
    """Kill until `kills` have hit, each run `per_run` times at most; returns how many runs ended otherwise."""
    whole = unbroken(out, settings)
    print(
        f"unbroken run: {whole.seconds:.1f} s, {whole.steps} steps, {len(whole.weights):,} bytes of weights", flush=True
    )
    rng = random.Random(seed)
    hits = runs = different = 0
    while hits < kills:
        name = f"broken-{runs:04d}"
        trial = broken(out, name, settings, draw_moments(rng, min(per_run, kills - hits), whole, out / name))
        equal = trial.weights == whole.weights and trial.epochs == list(range(1, len(trial.epochs) + 1))
        moments = ", ".join(f"{moment:.2f}" for moment in trial.kills) or "nothing"
        verdict = "equal" if equal else "DIFFERENT"
        print(f"killed after {moments} s; resumed at steps {trial.resumed}: {verdict}", flush=True)
        hits, runs, different = hits + len(trial.kills), runs + 1, different + (not equal)
    print(f"{hits} kills hit a running process, in {runs} runs; {different} runs differ (seed {seed})")
    return different


def main() -> int:
    """Parse, run, and exit with 3 when a run ended with other weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs that hit, in all (20)")
    parser.add_argument("--per-run", type=int, default=4, help="most SIGKILLs in one run (4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
    parser.add_argument("settings", nargs="*", help="settings of the training, after --", default=LONGER_SETTINGS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        different = run_trials(arguments.kills, arguments.per_run, arguments.seed, arguments.settings, Path(folder))
    return 3 if different else 0


if __name__ == "__main__":
    sys.exit(main())
