"""Seconds from the start of Python to the end of the first training step, on a folder of many photos.

    python benchmarks/startup.py --folder DIR [--images 100000] [--classes 1000] [--times 3]

Makes small JPEGs in class folders under DIR, where they are not there yet, and starts a training on them several times,
each in a process of its own: the first packs the photos into the cache under DIR, where it is empty, the others find
them there. Imports, the forecast and the checks before training are counted. Before each, a process imports PyTorch and
TorchDynamo, which its first optimizer imports, and nothing else: that much any training with PyTorch takes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

IMPORTS = """
import os, time
import torch, torch._dynamo
print(f"{time.time() - float(os.environ['BEGAN']):6.1f} s for PyTorch alone", end="; ", flush=True)
"""
COLOURS_PX, SIDE_PX = 8, 64
PROGRAM = """
import os, sys, time
import opsin

class Stop(opsin.Callback):
    def on_step(self, step):
        since = time.time() - float(os.environ["BEGAN"])
        print(f"{since:6.1f} s on the wall, {time.process_time():6.1f} of the processor", flush=True)
        os._exit(0)

settings = {"model": "tiny", "from_scratch": True, "input_size": 32, "epochs": 1, "batch_size": 128}
opsin.train(sys.argv[1], name=sys.argv[2], out=sys.argv[3], quiet=True, callbacks=[Stop()], **settings)
"""


def make_photos(folder: Path, images: int, classes: int) -> None:
    """JPEGs of 64 px, smooth and noisy around a picture of their class."""
    draws = np.random.default_rng(0)
    for label in range(classes):
        within = folder / f"class-{label:05d}"
        within.mkdir(parents=True)
        base = draws.integers(0, 256, (COLOURS_PX, COLOURS_PX, 3))
        for number in range(images // classes):
            colours = np.clip(base + draws.integers(-40, 41, base.shape), 0, 255).astype(np.uint8)
            photo = Image.fromarray(colours).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
            photo.save(within / f"{number:05d}.jpg", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    photos = asked.folder / f"photos-{asked.images}-{asked.classes}"
    if not photos.is_dir():
        make_photos(photos, asked.images, asked.classes)
    environment = os.environ | {"OPSIN_CACHE": str(asked.folder / "cache")}
    for number in range(asked.times):
        runs = asked.folder / "runs"
        started = [PROGRAM, str(photos), f"{os.getpid()}-{number}", str(runs)]
        for program in ([IMPORTS], started):
            began = {"BEGAN": repr(time.time())}
            subprocess.run([sys.executable, "-c", *program], env=environment | began, check=True)


if __name__ == "__main__":
    main()
