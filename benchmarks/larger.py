"""Images/s of loading and augmenting photos packed at the input's size, and packed larger: the same batches, in turn.

    python benchmarks/larger.py /work/datasets/flower_photos --side 96 --scale 1.3

Seconds of the processor, not of the clock, so that other processes count little. The network is not run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from opsin.batches.augment import augment
from opsin.batches.loader import batches
from opsin.config import AugmentConfig
from opsin.data.load import load
from opsin.data.pack import pack, usable_cache
from opsin.data.samples import Samples
from opsin.tasks.classify.defaults import PHOTO_AUGMENTATION
from opsin.types import SizePolicy

ROUNDS = 7
BATCH_SIZE = 64


def main() -> None:
    """Print the images/s of both, and the ratio with its range over the rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--scale", type=float, default=1.3)
    given = parser.parse_args()
    policy, larger = (SizePolicy(height=side, width=side) for side in (given.side, round(given.scale * given.side)))
    splits = pack(load(given.data), policy, cache=usable_cache(), splits=["train"], larger={"train": larger})
    both = (splits["train"], splits["train"].to_augment)
    found = np.array([[seconds(samples, given.side, epoch) for samples in both] for epoch in range(ROUNDS + 1)])[1:]
    rates = len(both[0]) / np.median(found, axis=0)
    ratios = found[:, 1] / found[:, 0]
    print(f"{given.side} px: {rates[0]:,.0f} images/s; packed at {larger.height} px: {rates[1]:,.0f} images/s")
    print(f"seconds, larger / same: {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")


def seconds(samples: Samples, side: int, epoch: int) -> float:
    """Processor seconds of an epoch of augmented batches."""
    config = AugmentConfig(**PHOTO_AUGMENTATION)
    began = time.process_time()
    for batch in batches(samples, BATCH_SIZE, seed=0, epoch=epoch, training=True):
        augment(batch, config, seed=0, epoch=epoch, num_classes=5, size=(side, side))
    return time.process_time() - began


if __name__ == "__main__":
    main()
