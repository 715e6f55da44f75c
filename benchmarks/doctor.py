"""Faults that are put into runs on purpose, and whether the doctor finds them: the table of docs/results.md.

Each kind of fault is trained with several seeds on the embedded digits, some seconds each, and so are as many sound
runs. A fault is found where the check of its name reports it; a check is false where it reports a sound run.
The thresholds of the checks were set with seed 0, which is not among the seeds of the table.
What else the doctor says of a faulty run is printed too: a fault seldom comes alone.

    OMP_NUM_THREADS=1 python benchmarks/doctor.py --seeds 5 --runs /tmp/doctor
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

import opsin
from opsin.errors import DivergedError
from opsin.models.building import build_with_heads
from opsin.runs import Run
from opsin.tasks.classify import task as classify

Arrays = dict[str, Any]
NUM_VAL, NUM_TEST = 300, 300
SOUND: dict[str, Any] = {"epochs": 12, "filters": [32, 64], "shift": 1, "label_smoothing": 0.1, "preflight": False}
"""Settings of a sound run, those of the set `digits` but for the epochs."""


def digits(seed: int, *, num_train: int | None = None, num_val: int = NUM_VAL) -> Arrays:
    """The digits, divided at random."""
    raw = load_digits()
    order = np.random.default_rng(seed).permutation(len(raw.target))
    images, labels = (raw.images[order] * 15.9).astype(np.uint8), raw.target[order].astype(np.int64)
    parts = {"test": slice(0, NUM_TEST), "val": slice(NUM_TEST, NUM_TEST + num_val)}
    first = NUM_TEST + NUM_VAL
    parts["train"] = slice(first, None if num_train is None else first + num_train)
    arrays = {f"x_{split}": images[rows] for split, rows in parts.items()}
    return arrays | {f"y_{split}": labels[rows] for split, rows in parts.items()}


def relabelled(
    arrays: Arrays, seed: int, *, of: Callable[[np.ndarray], np.ndarray], to: int | None, share: float
) -> Arrays:
    """A share of the training labels for which `of` holds replaced by `to`, or by random ones."""
    generator, labels = np.random.default_rng(seed), arrays["y_train"].copy()
    rows = np.flatnonzero(of(labels))
    rows = generator.permutation(rows)[: round(share * len(rows))]
    labels[rows] = generator.integers(0, 10, len(rows)) if to is None else to
    return arrays | {"y_train": labels}


@contextmanager
def changed_network(change: Callable[[nn.Module], None]) -> Iterator[None]:
    """Networks are changed right after they are built."""

    def built(*arguments: Any, **named: Any) -> nn.Module:
        network = build_with_heads(*arguments, **named)
        change(network)
        return network

    with patch.object(classify, "build_with_heads", built):
        yield


def kill_units(network: nn.Module) -> None:
    """Half of the units of each convolution never rise above zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data[: len(module.bias) // 2] = -1000.0


def forget_statistics(network: nn.Module) -> None:
    """Batch norms keep the statistics of the last batch alone."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0


class Trials:
    """Trains runs into a folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def train(self, kind: str, seed: int, arrays: Arrays, **settings: Any) -> Run:
        """One run; one that diverges is left as it is."""
        name = f"{kind}-{seed}"
        settings = {**SOUND, **settings, "seed": seed}
        self.out.mkdir(parents=True, exist_ok=True)
        file = self.out / f"{name}.npz"
        np.savez(file, **arrays)
        try:
            return opsin.train(file, out=self.out, name=name, quiet=True, report=False, **settings)
        except DivergedError:
            return Run.open(name, out=self.out)

    def sound(self, seed: int) -> Run:
        return self.train("sound", seed, digits(seed))

    def overfitting(self, seed: int) -> Run:
        return self.train("overfitting", seed, digits(seed, num_train=60), epochs=40, shift=0)

    def underfitting(self, seed: int) -> Run:
        return self.train("underfitting", seed, digits(seed), filters=[1])

    def rate_too_high(self, seed: int) -> Run:
        return self.train("rate-too-high", seed, digits(seed), lr=8.0 * (1 + seed))

    def rate_too_low(self, seed: int) -> Run:
        return self.train("rate-too-low", seed, digits(seed), lr=2e-4 / (1 + seed), lr_other=1e-4)

    def plateau(self, seed: int) -> Run:
        return self.train("plateau", seed, digits(seed), filters=[2], schedule="constant", epochs=30)

    def majority_class(self, seed: int) -> Run:
        arrays = relabelled(digits(seed), seed, of=lambda labels: labels != 0, to=0, share=0.8)
        return self.train("majority-class", seed, arrays)

    def class_drags(self, seed: int) -> Run:
        arrays = relabelled(digits(seed), seed, of=lambda labels: labels == 8, to=3, share=0.85)
        return self.train("class-drags", seed, arrays)

    def best_at_the_end(self, seed: int) -> Run:
        return self.train(
            "best-at-the-end", seed, digits(seed), epochs=4, lr=0.002, lr_other=0.001, schedule="constant"
        )

    def best_far_from_the_end(self, seed: int) -> Run:
        arrays = relabelled(digits(seed, num_train=500), seed, of=lambda labels: labels >= 0, to=None, share=0.6)
        return self.train("best-far-from-the-end", seed, arrays, epochs=40, shift=0, schedule="constant", lr=0.02)

    def val_too_small(self, seed: int) -> Run:
        return self.train("val-too-small", seed, digits(seed, num_val=24))

    def val_unlike_train(self, seed: int) -> Run:
        arrays = digits(seed)
        return self.train("val-unlike-train", seed, arrays | {"x_val": (arrays["x_val"] * 0.7).astype(np.uint8)})

    def val_far_from_test(self, seed: int) -> Run:
        arrays = digits(seed)
        noise = np.random.default_rng(seed).normal(0, 80, arrays["x_test"].shape)
        arrays["x_test"] = (arrays["x_test"] + noise).clip(0, 255).astype(np.uint8)
        return self.train("val-far-from-test", seed, arrays, open_test=True)

    def leak(self, seed: int) -> Run:
        arrays = digits(seed)
        for key in ("x", "y"):
            arrays[f"{key}_train"] = np.concatenate([arrays[f"{key}_train"], arrays[f"{key}_val"][:100]])
        return self.train("leak", seed, arrays, allow_leaks=True)

    def dead_units(self, seed: int) -> Run:
        with changed_network(kill_units):
            return self.train("dead-units", seed, digits(seed), model="plain", batch_norm=False, filters=[16, 32])

    def batch_norm(self, seed: int) -> Run:
        with changed_network(forget_statistics):
            return self.train("batch-norm", seed, digits(seed), batch_size=8, epochs=3)


KINDS = (
    *("overfitting", "underfitting", "rate-too-high", "rate-too-low", "plateau", "majority-class", "class-drags"),
    *("best-at-the-end", "best-far-from-the-end", "val-too-small", "val-unlike-train", "val-far-from-test", "leak"),
    *("dead-units", "batch-norm"),
)


def found_by_doctor(run: Run) -> list[str]:
    """Names of the checks that report something."""
    return [finding.check for finding in opsin.diagnose(run).findings]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, required=True, help="a new folder, or an empty one")
    parser.add_argument("--kinds", default=",".join(KINDS))
    arguments = parser.parse_args()
    if arguments.runs.exists() and (not arguments.runs.is_dir() or any(arguments.runs.iterdir())):
        parser.error(f"{arguments.runs} is not empty, and nothing in it is removed: name a new folder")
    trials, seeds = Trials(arguments.runs), range(1, 1 + arguments.seeds)
    false: Counter[str] = Counter(check for seed in seeds for check in found_by_doctor(trials.sound(seed)))
    print(f"sound: {arguments.seeds} runs, reported: {dict(false) or 'nothing'}", flush=True)
    for kind in arguments.kinds.split(","):
        train = getattr(trials, kind.replace("-", "_"))
        said = Counter(check for seed in seeds for check in found_by_doctor(train(seed)))
        others = {check: count for check, count in said.items() if check != kind}
        print(
            f"| {kind} | {said[kind]} of {arguments.seeds} | {false[kind]} of {arguments.seeds} | {others} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
