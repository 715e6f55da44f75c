"""How many of labels that were flipped on purpose does `opsin clean` find?

    python benchmarks/flipped_labels.py --root DATA [--images 10000] [--share 0.05] [--seeds 0 1 2]

Labels of CIFAR-10's first images are moved to another class, drawn evenly; recall and precision are over the suspects
that are there for their label. Labels that were wrong already count against precision.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import opsin
from opsin.cleaning.clean import clean
from opsin.config import DataConfig
from opsin.data.samples import Dataset
from opsin.data.sources import ArraySource


def flipped(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, set[str]]:
    """The data set with labels of train and val flipped, and the ids of those samples."""
    generator = np.random.default_rng(seed)
    splits, changed = dict(dataset.splits), set[str]()
    for name in ("train", "val"):
        source = splits[name]
        assert isinstance(source, ArraySource)
        assert source.labels is not None
        rows = generator.permutation(len(source))[: round(share * len(source))]
        labels = source.labels.copy()
        classes = len(dataset.classes)
        labels[rows] = (labels[rows] + generator.integers(1, classes, len(rows))) % classes
        splits[name] = replace(source, labels=labels)
        changed |= {source.ids[i] for i in rows}
    return replace(dataset, splits=splits), changed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()
    config = DataConfig(subset=f"train={asked.images},test=100")
    dataset = opsin.load("cifar10", root=asked.root, config=config)
    for seed in asked.seeds:
        began = time.monotonic()
        data, changed = flipped(dataset, asked.share, seed)
        with tempfile.TemporaryDirectory() as folder:
            found = clean(
                data, seed=seed, page=Path(folder) / "suspects.html", verdicts=Path(folder) / "verdicts.csv", quiet=True
            )
        named = {suspect.id for suspect in found.suspects if "label" in suspect.reasons}
        hits = len(named & changed)
        print(
            f"seed {seed}: {len(named):,} suspects of {found.samples:,}, {len(changed):,} flipped: "
            f"recall {hits / max(1, len(changed)):.3f}, precision {hits / max(1, len(named)):.3f}, "
            f"noise {found.noise:.4f}, {time.monotonic() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
