"""Photos of 12 megapixels, decoded and fitted to an input: whole, and at a fraction of their sides as Opsin does it.

python benchmarks/large_photos.py PHOTOS [--photos 8] [--rounds 2] [--sides 96,160,224]

PHOTOS is a folder of JPEGs, e.g. flower_photos; they are enlarged to 4000 x 3000 px with some noise. Prints images a
second of processor time, both ways in turn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from opsin.io.images import read_image
from opsin.ops.resize import fit_image, resampled_size
from opsin.types import SizePolicy

SIZE = (4000, 3000)
NOISE = 8
"""Largest change of a pixel: enlarged photos are too smooth for a camera's."""


def made_photos(source: Path, folder: Path, count: int) -> list[Path]:
    """Photos of 12 megapixels, evenly chosen from those below `source`."""
    rng, files = np.random.default_rng(0), sorted(source.rglob("*.jpg"))
    made = []
    for place in np.linspace(0, len(files) - 1, count).astype(int):
        pixels = np.asarray(Image.open(files[place]).convert("RGB").resize(SIZE, Image.Resampling.BICUBIC), np.int16)
        noisy = pixels + rng.integers(-NOISE, NOISE + 1, (*pixels.shape[:2], 1))
        made.append(folder / f"{place}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(made[-1], quality=90)
    return made


def images_per_second(photos: Sequence[Path], policy: SizePolicy, *, whole: bool) -> float:
    """Decode and fit all photos once."""
    sides = None if whole else resampled_size(policy)
    began = time.process_time()
    for photo in photos:
        found = read_image(photo, sides=sides)
        fit_image(found.pixels, policy, whole=found.size)
    return len(photos) / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="PHOTOS")
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sides", default="96,160,224")
    options = parser.parse_args()
    print("| input, px | whole | at a fraction | times |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        photos = made_photos(options.source, Path(folder), options.photos)
        for side in map(int, options.sides.split(",")):
            policy = SizePolicy(height=side, width=side, fit="crop", crop_share=0.875)
            for _ in range(options.rounds):
                all_of, part = (images_per_second(photos, policy, whole=whole) for whole in (True, False))
                print(f"| {side} | {all_of:.1f} | {part:.1f} | {part / all_of:.2f} |", flush=True)


if __name__ == "__main__":
    main()
