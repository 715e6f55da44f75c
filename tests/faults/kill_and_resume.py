"""Kills a training at random moments, resumes it, and compares its weights with those of an unbroken run.

A program (`scripts/faults`), and functions for the tests beside it. A kill is SIGKILL: no code can react.
Moments are drawn from the seed, every other one over the whole life of the process (imports, packing, final files), the
rest over its training alone (steps, checkpoint writes). After each kill the run is started again with
`--resume` and killed at its next moment, until all moments are used up; then it is left to finish.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from opsin.runs import Run

WEIGHTS = Path("model") / "weights.safetensors"
MAX_SECONDS = 600
DEFAULT_SETTINGS = ("--epochs", "6", "--precision", "float32", "--channels-last", "--threads", "1")
"""Short, and with nothing left to be timed: a choice between equally fast formats could differ between two machines."""
LONGER_SETTINGS = ("--epochs", "40", *DEFAULT_SETTINGS[2:])
"""For the program: long enough for most kills to find a checkpoint."""


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


def unbroken(out: Path, settings: Sequence[str]) -> tuple[bytes, float]:
    """The weights of a run that nobody disturbs, and its seconds."""
    began = time.monotonic()
    finish(start(out, "unbroken", settings))
    return (out / "unbroken" / WEIGHTS).read_bytes(), time.monotonic() - began


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a training that has to succeed."""
    _, messages = process.communicate(timeout=MAX_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode} of {process.args!r}\n{messages}")


def broken(out: Path, name: str, settings: Sequence[str], moments: Sequence[float]) -> Trial:
    """A run that is killed at each of `moments` in turn, counted from the start of its process, then left to finish."""
    trial = Trial()
    folder = out / name
    for moment in moments:
        process = start(out, name, settings, resume=folder.exists())
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            trial.kills.append(moment)
        _, messages = process.communicate()
        if process.returncode not in (0, -9):
            raise RuntimeError(f"exit code {process.returncode} of {process.args!r}\n{messages}")
    finish(start(out, name, settings, resume=folder.exists()))
    log = Run(folder).log
    trial.resumed = [row["step"] for row in log if row["event"] == "resume"]
    trial.epochs = [row["epoch"] for row in log if row["event"] == "epoch"]
    trial.weights = (folder / WEIGHTS).read_bytes()
    return trial


def draw_moments(rng: random.Random, count: int, seconds: float, *, training_from: float = 0.0) -> list[float]:
    """`count` moments of a process that lives `seconds`; every other one after `training_from`."""
    return [rng.uniform(training_from if i % 2 else 0.0, seconds) for i in range(count)]


def seconds_before_training(run: Run, seconds: float) -> float:
    """How long a process that lived `seconds` took to its first step, by the stamps in its log."""
    stamps = {
        row["event"]: datetime.fromisoformat(row["time"]) for row in run.log if row["event"] in ("start", "finish")
    }
    return max(0.0, seconds - (stamps["finish"] - stamps["start"]).total_seconds())


def run_trials(kills: int, per_run: int, seed: int, settings: Sequence[str], out: Path) -> int:
    """Kill `kills` times, `per_run` times in each run; returns the number of runs whose weights or epochs differ."""
    weights, seconds = unbroken(out, settings)
    print(f"unbroken run: {seconds:.1f} s, {len(weights):,} bytes of weights", flush=True)
    before = seconds_before_training(Run(out / "unbroken"), seconds)
    rng = random.Random(seed)
    done = hits = different = 0
    while done < kills:
        count = min(per_run, kills - done)
        trial = broken(out, f"broken-{done:04d}", settings, draw_moments(rng, count, seconds, training_from=before))
        equal = trial.weights == weights and trial.epochs == list(range(1, len(trial.epochs) + 1))
        moments = ", ".join(f"{moment:.2f}" for moment in trial.kills)
        verdict = "equal" if equal else "DIFFERENT"
        print(f"killed after {moments} s; resumed at steps {trial.resumed}: {verdict}", flush=True)
        done, hits, different = done + count, hits + len(trial.kills), different + (not equal)
    print(
        f"{hits} kills hit a running process, {done - hits} came after its end; {different} runs differ (seed {seed})"
    )
    return different


def main() -> int:
    """Parse, run, and exit with 3 when a run ended with other weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs in all (20)")
    parser.add_argument("--per-run", type=int, default=4, help="SIGKILLs in one run (4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
    parser.add_argument("settings", nargs="*", help="settings of the training, after --", default=LONGER_SETTINGS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        different = run_trials(arguments.kills, arguments.per_run, arguments.seed, arguments.settings, Path(folder))
    return 3 if different else 0


if __name__ == "__main__":
    sys.exit(main())
