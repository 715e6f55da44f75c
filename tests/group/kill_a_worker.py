"""Kills one of the processes that train together, and compares what the group ends with to an unbroken run.

A program (`scripts/faults-group`), and functions for the tests beside it. A kill is SIGKILL: no code can react. Nobody
starts the group again but its own launcher. Every process notes the samples of each step before it takes it; of a step
that was taken again after a kill the notes must be the same, and those of an epoch must name every sample once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from opsin.launching import MAX_RESTARTS, launch
from opsin.runs import Run

WEIGHTS = Path("model") / "weights.safetensors"
PROCESSES = 4
TRAINED = 150
"""Training samples of each run."""
MAX_SECONDS = 3600
"""A guard against a group that hangs: on a machine of two busy cores a start takes minutes."""
NOTES = "OPSIN_TEST_NOTES"
"""Names the folder that processes note the samples of their steps in."""
COMMON = ("--subset", f"train={TRAINED},val=30", "--batch-size", "32", "--precision", "float32", "--channels-last")
COMMON += ("--threads", "1", "--checkpoint-minutes", "0.01", "--no-preflight", "--quiet")
TASKS = {
    "classify": ("digits", "--model", "plain", "--filters", "4", "--dense", "8"),
    "localize": ("digit_scenes", "--model", "tiny"),
    "segment": ("digit_masks", "--model", "tiny"),
}
"""Data and settings of each task's run."""
EPOCHS = 120
"""Long enough for most kills to find a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a run has left: bytes of its weights, epochs of its log, samples of each step by their numbers."""

    weights: bytes
    epochs: list[dict[str, Any]]
    samples: dict[int, list[int]]
    seconds: float
    before: float
    """Seconds before the first step."""


@dataclass
class Trial:
    """A run whose processes were killed: moments in seconds after the start of their group, and what was found."""

    killed: list[str] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def noted(arguments: list[str]) -> int:
    """The command of one process of a group, which notes the samples of each step."""
    from opsin.cli.train import one_of_several
    from opsin.training.engine.step import Stepper

    path = Path(os.environ[NOTES]) / f"{os.environ['RANK']}-{os.getpid()}.jsonl"
    take_step = Stepper.train

    def train(self: Stepper, seen: Any, *, step: int, epoch: int, factor: float, parts: int) -> Any:
        counted = seen.index[: seen.share.counted].tolist()
        with path.open("a") as file:
            file.write(json.dumps([step, int(os.environ["RANK"]), counted]) + "\n")
        return take_step(self, seen, step=step, epoch=epoch, factor=factor, parts=parts)

    Stepper.train = train  # type: ignore[method-assign]
    return one_of_several(arguments)


def start(out: Path, name: str, task: str, epochs: int) -> subprocess.Popen[str]:
    """Start a group; its messages go into a pipe."""
    notes = out / f"{name}.notes"
    notes.mkdir()
    places = ("train", *TASKS[task], "--epochs", str(epochs), "--name", name, "--out", str(out))
    return subprocess.Popen(
        [sys.executable, __file__, "launch", *places, *COMMON],
        env=os.environ | {"OPSIN_CACHE": str(out / "cache"), "OMP_NUM_THREADS": "1", NOTES: str(notes)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def members(launcher: int) -> list[int]:
    """The living processes of the group that `launcher` has started by its fork server, the lead first."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            started = b"forkserver" in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if started and state != "Z":
            parents[int(folder.name)] = int(parent)
    return sorted(pid for pid, parent in parents.items() if parents.get(parent) == launcher)


def wait_for_group(process: subprocess.Popen[str], earlier: set[int]) -> list[int]:
    """The processes of a group that is not the `earlier` one; empty if its launcher ends before."""
    while process.poll() is None:
        found = members(process.pid)
        if len(found) == PROCESSES and not earlier & set(found):
            return found
        time.sleep(0.05)
    return []


def ended(out: Path, name: str, seconds: float) -> Ended:
    """What the run `name` has left.

    Raises:
        ValueError: a step was taken twice, with other samples.
    """
    run = Run(out / name)
    stamps = {row.event: datetime.fromisoformat(row["time"]) for row in run.log if row.event in ("start", "finish")}
    kept = ("epoch", "step", "lr", "train", "val", "best")
    epochs = [{key: row[key] for key in kept} for row in run.log if row.event == "epoch"]
    before = max(0.0, seconds - (stamps["finish"] - stamps["start"]).total_seconds())
    weights = (run.path / WEIGHTS).read_bytes()
    return Ended(weights=weights, epochs=epochs, samples=noted_samples(out, name), seconds=seconds, before=before)


def noted_samples(out: Path, name: str) -> dict[int, list[int]]:
    """Samples of each step, of all processes in their order."""
    found: dict[tuple[int, int], list[int]] = {}
    for file in sorted((out / f"{name}.notes").iterdir()):
        for line in file.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # a kill has torn it
            step, rank, counted = json.loads(line)
            if found.setdefault((step, rank), counted) != counted:
                raise ValueError(f"step {step} of process {rank} was taken with {counted} and {found[step, rank]}")
    steps = sorted({step for step, _ in found})
    return {step: [i for rank in range(PROCESSES) for i in found.get((step, rank), [])] for step in steps}


def unbroken(out: Path, task: str, epochs: int) -> Ended:
    """A run that nobody disturbs."""
    began = time.monotonic()
    process = start(out, f"{task}-unbroken", task, epochs)
    _, messages = process.communicate(timeout=MAX_SECONDS)
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}\n{messages}")
    found = ended(out, f"{task}-unbroken", time.monotonic() - began)
    if wrong := wrongly_seen(found):
        raise RuntimeError(wrong)
    return found


def wrongly_seen(found: Ended) -> str:
    """Which samples an epoch of a run has not seen once; empty if there is none."""
    first = 0
    for epoch in found.epochs:
        counts = Counter(i for step in range(first, epoch["step"]) for i in found.samples.get(step, []))
        wrong = {i: counts[i] for i in range(TRAINED) if counts[i] != 1}
        if wrong:
            return f"samples of epoch {epoch['epoch']} that were not seen once: {wrong}"
        first = epoch["step"]
    return ""


def broken(out: Path, name: str, task: str, kills: int, rng: random.Random, whole: Ended) -> Trial:
    """A run one of whose processes is killed at a drawn moment, in each of `kills` groups one after the other."""
    trial, process = Trial(), start(out, name, task, whole.epochs[-1]["epoch"])
    seen: set[int] = set()
    for number in range(kills):
        group = wait_for_group(process, seen)
        began = time.monotonic()
        left = (whole.seconds - whole.before) * (1 - last_step(out / name) / whole.epochs[-1]["step"])
        moment = rng.uniform(whole.before if number % 2 else 0.0, whole.before + left)
        victim = rng.randrange(PROCESSES)
        while process.poll() is None and time.monotonic() - began < moment:
            time.sleep(0.01)
        if not group or group[victim] not in members(process.pid):
            break
        seen |= set(group)
        os.kill(group[victim], signal.SIGKILL)
        trial.killed.append(f"process {victim} after {moment:.1f} s")
    _, messages = process.communicate(timeout=MAX_SECONDS)
    trial.faults = faults(out, name, whole, process.returncode, messages)
    trial.resumed = [row["step"] for row in Run(out / name).log if row.event == "resume"]
    return trial


def faults(out: Path, name: str, whole: Ended, code: int, messages: str) -> list[str]:
    """What is wrong with a run that was disturbed."""
    if code != 0:
        return [f"exit code {code}: {messages}"]
    try:
        found = ended(out, name, 0.0)
    except ValueError as error:
        return [str(error)]
    told = []
    if found.weights != whole.weights:
        told.append("other weights")
    if found.epochs != whole.epochs:
        told.append("other epochs in the log")
    if found.samples != whole.samples:
        told.append("other samples")
    return told + ([wrong] if (wrong := wrongly_seen(found)) else [])


def last_step(folder: Path) -> int:
    """The last step that the log of the run in `folder` tells of; 0 where there is none."""
    log = Run(folder).log if (folder / "config.json").is_file() else []
    return max((row["step"] for row in log if "step" in row), default=0)


def run_trials(kills: int, per_run: int, seed: int, tasks: Sequence[str], epochs: int, out: Path) -> int:
    """Kill until `kills` have hit, one task after the other; returns how many runs ended otherwise."""
    rng, whole = random.Random(seed), {}
    for task in tasks:
        whole[task] = found = unbroken(out, task, epochs)
        steps = found.epochs[-1]["step"]
        print(
            f"{task}, unbroken: {found.seconds:.1f} s, {found.before:.1f} s of them before the first of {steps} steps"
        )
    hits = runs = different = 0
    while hits < kills:
        task = tasks[runs % len(tasks)]
        trial = broken(out, f"{task}-{runs:04d}", task, min(per_run, kills - hits), rng, whole[task])
        killed = "; ".join(trial.killed) or "nobody"
        verdict = f"DIFFERENT: {'; '.join(trial.faults)}" if trial.faults else "equal"
        print(f"{task}: killed {killed}; resumed at steps {trial.resumed}: {verdict}", flush=True)
        hits, runs, different = hits + len(trial.killed), runs + 1, different + bool(trial.faults)
    print(f"{hits} kills hit a process, in {runs} runs; {different} runs differ (seed {seed})")
    return different


def main() -> int:
    """Parse, run, and exit with 3 when a run ended otherwise."""
    if sys.argv[1:2] == ["launch"]:
        return launch(noted, sys.argv[2:], PROCESSES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs that hit, in all (20)")
    parser.add_argument("--per-run", type=int, default=MAX_RESTARTS, help="most SIGKILLs in one run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (0)")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of each run ({EPOCHS})")
    asked = parser.parse_args()
    if not 1 <= asked.per_run <= MAX_RESTARTS:
        parser.error(f"--per-run: got {asked.per_run}, expected 1 to {MAX_RESTARTS}, as often as a group starts again")
    with tempfile.TemporaryDirectory() as folder:
        different = run_trials(asked.kills, asked.per_run, asked.seed, asked.tasks, asked.epochs, Path(folder))
    return 3 if different else 0


if __name__ == "__main__":
    sys.exit(main())
