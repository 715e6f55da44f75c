"""Training steps of two versions of Opsin in turn, on the same machine in the same minutes: images/s, and their ratio.

python benchmarks/step_pairs.py OLD NEW --root DEST [--pairs 5] [--models small,plain,resnet18]

OLD and NEW are two checkouts, e.g. `git worktree add --detach OLD 0ba2f7b`. Both train on the first images of CIFAR-10
with one thread, in float32; what counts is the mean images/s of all epochs but the first, as the log of the run has it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

EPOCHS = 3
IMAGES = {"resnet18": 512}
"""Training images, where a network is slow; others see ten times as many."""


def images_per_second(checkout: Path, model: str, root: Path, folder: Path, name: str) -> float:
    """Train once, in a process of its own."""
    count = IMAGES.get(model, 5120)
    command = [sys.executable, "-m", "opsin", "train", "cifar10", "--root", str(root), "--model", model]
    command += ["--subset", f"train={count},test=200", "--val-fraction", "0.1", "--epochs", str(EPOCHS), "--seed", "0"]
    command += ["--batch-size", "128", "--threads", "1", "--precision", "float32", "--no-preflight", "--quiet"]
    own = {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1", "OPSIN_CACHE": str(folder / checkout.name)}
    subprocess.run([*command, "--name", name, "--out", str(folder)], env=os.environ | own, check=True)
    events = [json.loads(line) for line in (folder / name / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return float(np.mean([event["images_per_second"] for event in events if event["event"] == "epoch"][1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="folder of cifar-10-batches-bin/")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--models", default="small,plain,resnet18")
    options = parser.parse_args()
    print("| network | old, images/s | new, images/s | median of new / old | lowest, highest |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models.split(","):
            found = [
                [
                    images_per_second(checkout.absolute(), model, options.root, Path(folder), f"{which}-{model}-{i}")
                    for which, checkout in (("old", options.old), ("new", options.new))
                ]
                for i in range(options.pairs)
            ]
            ratios = [new / old for old, new in found]
            old, new = np.mean(found, axis=0)
            ends = f"{min(ratios):.3f}, {max(ratios):.3f}"
            print(f"| {model} | {old:,.0f} | {new:,.0f} | {np.median(ratios):.3f} | {ends} |", flush=True)


if __name__ == "__main__":
    main()
