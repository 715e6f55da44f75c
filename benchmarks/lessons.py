"""Lessons of architecture as measurements: networks that differ in one thing, on the same data, over several seeds.

Each lesson trains both networks with every seed, then compares them as `opsin compare` does; the shift of the images by
a few pixels is measured where it is what the lesson is about. All runs take the same steps in float32.

    python benchmarks/lessons.py                                   digits of 8x8 pixels, which need no download
    python benchmarks/lessons.py --data cifar10 --root DATA --subset train=15000 --val-fraction 0.333333 --epochs 8
    python benchmarks/lessons.py --only separable --json lessons.json

Runs that are there already (`--out`) are not trained again, so that an interrupted measurement goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import opsin
from opsin.artifact import load as load_artifact
from opsin.cli.compare import show
from opsin.comparison.comparison import Comparison, compare_runs
from opsin.comparison.shifts import shifted_accuracy
from opsin.data.pack import default_cache, pack
from opsin.data.samples import Samples
from opsin.runs import Run

SHIFTS = (0, 1, 2, 3, 4)
COMMON = {"precision": "float32", "channels_last": True, "flip": 0.0, "model": "plain"}
"""The same arithmetic for all; no flips, so that digits stay digits."""
WIDTHS = {"filters": (32, 64)}


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Two networks, by name, with the settings of each; `shifts`: also measure what a shift of the images does."""

    name: str
    networks: Mapping[str, Mapping[str, Any]]
    shifts: bool = False
    common: Mapping[str, Any] = field(default_factory=dict)


LESSONS = (
    Lesson(
        name="dense-or-convolutional",
        networks={"dense": {"model": "dense", "dense": (256,)}, "conv": WIDTHS},
        shifts=True,
    ),
    Lesson(name="separable", networks={"plain": {}, "separable": {"separable": True}}, common=WIDTHS),
    Lesson(
        name="pooling-or-stride",
        networks={"pool": {}, "stride": {"downsample": "stride"}},
        common=WIDTHS,
        shifts=True,
    ),
    Lesson(
        name="residual",
        networks={"none": {"second_conv": "plain"}, "residual": {"second_conv": "residual"}},
        common=WIDTHS,
    ),
    Lesson(name="batch-norm", networks={"without": {"batch_norm": False}, "with": {"batch_norm": True}}, common=WIDTHS),
    Lesson(
        name="response-norm",
        networks={"without": {}, "with": {"response_norm": True}},
        common=WIDTHS | {"batch_norm": False},
    ),
    Lesson(
        name="flatten-or-global-mean",
        networks={"flatten": {}, "mean": {"global_pool": True}},
        common=WIDTHS,
        shifts=True,
    ),
)


def trained(lesson: Lesson, network: str, seed: int, arguments: argparse.Namespace) -> Run:
    """A run of one network of a lesson; trained now if it is not there."""
    name, out = f"{lesson.name}-{network}-{seed}", Path(arguments.out)
    if (out / name / "scores.json").is_file():
        return Run.open(name, out=out)
    settings: dict[str, Any] = {**COMMON, **lesson.common, **lesson.networks[network], "seed": seed}
    settings |= {"epochs": arguments.epochs, "batch_size": arguments.batch_size}
    settings |= {"subset": arguments.subset, "val_fraction": arguments.val_fraction}
    given = {key: value for key, value in settings.items() if value is not None}
    print(f"training {name}", file=sys.stderr, flush=True)
    return opsin.train(arguments.data, root=arguments.root, name=name, out=out, quiet=True, **given)


def val_samples(run: Run, root: str | None) -> Samples:
    """The samples on which a run was scored."""
    config, contract = run.config, load_artifact(run.model_folder).preprocess
    dataset = opsin.load(config.source, root=root or config.root, config=config.data)
    return pack(dataset, contract.size, cache=default_cache(), splits=["val"])["val"]


def taught(lesson: Lesson, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, compare and print one lesson; returns its numbers."""
    seeds = range(arguments.seeds)
    runs = {network: [trained(lesson, network, seed, arguments) for seed in seeds] for network in lesson.networks}
    found: Comparison = compare_runs([run for group in runs.values() for run in group])
    print(f"\n{lesson.name}")
    show(found)
    numbers = {"lesson": lesson.name} | found.to_dict()
    if lesson.shifts:
        samples = val_samples(next(iter(runs.values()))[0], arguments.root)
        numbers["shifted"] = {network: shift_row(group, samples) for network, group in runs.items()}
        for network, row in numbers["shifted"].items():
            cells = ", ".join(f"{size} px {mean:.4f}" for size, mean in row.items())
            print(f"accuracy of {network} when the images are shifted by {cells}")
    return numbers


def shift_row(runs: list[Run], samples: Samples) -> dict[str, float]:
    """Mean accuracy over seeds by the size of the shift."""
    rows = [shifted_accuracy(run, samples, SHIFTS) for run in runs]
    return {str(size): float(np.mean([row[size] for row in rows])) for size in SHIFTS}


def main() -> int:
    """Teach all lessons, or those that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--root")
    parser.add_argument("--subset")
    parser.add_argument("--val-fraction", type=float, help="share of train that the networks are compared on")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default="runs/lessons")
    parser.add_argument("--only", default="", help="lessons whose name contains this")
    parser.add_argument("--json", help="file for all numbers")
    arguments = parser.parse_args()
    numbers = [taught(lesson, arguments) for lesson in LESSONS if arguments.only in lesson.name]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(numbers, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
