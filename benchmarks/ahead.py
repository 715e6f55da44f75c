"""Does it pay to augment batches in a thread ahead of the step? Images/s with and without, turn by turn in one process.

    python benchmarks/ahead.py [--threads 1] [--turns 5] [--seconds 3]

Each case trains our own step on made-up images; the turns alternate, so that other work on the machine meets both
alike. `share` is the time that augmentation takes of a step, which is the most that a thread could save.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch

from opsin import config
from opsin.batches.loader import batches
from opsin.data.load import load
from opsin.models.wrappers.forward import Precision
from opsin.progress import Reporter
from opsin.training.engine.step import Stepper
from opsin.training.setup.prepared import Prepared
from opsin.training.setup.preparing import prepare

CASES = {
    "28 px, shift": (28, {"shift": 2, "batch_size": 128}),
    "32 px, flip, shift, cutout": (32, {"shift": 4, "flip": 0.5, "cutout": 8, "batch_size": 128}),
    "32 px, rotate, scale, colours": (
        32,
        {"shift": 4, "flip": 0.5, "rotate": 15, "scale": 0.2, "brightness": 0.3, "contrast": 0.3, "batch_size": 128},
    ),
}


def prepared_case(side: int, settings: dict[str, object], threads: int) -> Prepared:
    """A data set of random images, ready to train on."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2048, 3, side, side), dtype=np.uint8)
    labels = np.arange(2048) % 10
    data = load({"x_train": images, "y_train": labels, "x_val": 255 - images[:100], "y_val": labels[:100]})
    asked = {"task": "classify", "source": "arrays", "model": "plain", "filters": [32, 64], "threads": threads}
    return prepare(data, config.resolve(asked, settings, {"precision": "float32"}), Reporter(quiet=True))


class Case:
    """A stepper and its stream of batches."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared, self.epoch = prepared, 0
        self.stepper = Stepper(
            prepared.artifact.network.train(),
            task=prepared.task,
            preprocess=prepared.artifact.preprocess,
            config=prepared.config,
            precision=Precision(),
            device=prepared.device,
            num_classes=10,
        )

    def rate(self, seconds: float, *, ahead: bool) -> float:
        """Images/s over whole epochs of at least so many seconds."""
        began, images = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            images += self._train_epoch(ahead=ahead)
        return images / (time.perf_counter() - began)

    def _train_epoch(self, *, ahead: bool) -> int:
        self.epoch += 1
        see = partial(self.stepper.see, epoch=self.epoch, height=None)
        stream = batches(
            self.prepared.splits["train"],
            self.prepared.config.train.batch_size,
            seed=0,
            epoch=self.epoch,
            training=True,
            prepare=see,
            ahead=ahead,
        )
        count = 0
        for step, seen in enumerate(stream):
            self.stepper.train(seen, step=step, epoch=0, factor=0.01, parts=1)
            count += len(seen)
        return count


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name, (side, settings) in CASES.items():
        case = Case(prepared_case(side, settings, asked.threads))
        case.rate(1.0, ahead=False)
        pairs = [
            (case.rate(asked.seconds, ahead=False), case.rate(asked.seconds, ahead=True)) for _ in range(asked.turns)
        ]
        ratios = [ahead / plain for plain, ahead in pairs]
        plain, ahead = (statistics.median(column) for column in zip(*pairs, strict=True))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name}: {plain:,.0f} images/s, ahead {ahead:,.0f}; ratio {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
