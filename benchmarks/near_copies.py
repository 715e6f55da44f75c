"""Near copies of CIFAR-10's test images among all its training images: their share, and a sheet of pairs to look at.

python benchmarks/near_copies.py --root DEST --out pairs.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import opsin
from opsin.data.quality.near import near_pairs
from opsin.io.files import write_atomically
from opsin.io.images import encode_png

NUM_PAIRS, COLUMNS, ENLARGED, GAP_PX = 48, 8, 2, 4
"""Pairs on the sheet, evenly spread from the most to the least alike; test image left, training image right."""


def sheet(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Pairs of images uint8 [3, H, W] side by side, `COLUMNS` in a row: uint8 [3, h, w]."""
    cells = [
        np.pad(np.concatenate(pair, axis=2), ((0, 0), (0, GAP_PX), (0, GAP_PX)), constant_values=255) for pair in pairs
    ]
    rows = [np.concatenate(cells[i : i + COLUMNS], axis=2) for i in range(0, len(cells), COLUMNS)]
    enlarged: NDArray[np.uint8] = np.concatenate(rows, axis=1).repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    return enlarged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    splits = opsin.load("cifar10", root=arguments.root).splits
    test, names = splits["test"], [name for name in ("train", "val") if name in splits]
    images = np.stack([test.image(i) for i in range(len(test))])
    others = np.concatenate([np.stack([splits[n].image(i) for i in range(len(splits[n]))]) for n in names])  # type: ignore[index]
    found = near_pairs(images, others)
    best: dict[int, int] = {}
    ascending = np.argsort(found.likeness, kind="stable")
    for k in ascending:
        best[int(found.first[k])] = int(found.second[k])
    share = f"{len(best) / len(test):.1%}"
    print(f"{len(best):,} of {len(test):,} test images have a near copy among {len(others):,}: {share}")
    likeness = {int(found.first[k]): float(found.likeness[k]) for k in ascending}
    order = sorted(best, key=lambda i: -likeness[i])
    chosen = [order[int(k)] for k in np.linspace(0, len(order) - 1, min(NUM_PAIRS, len(order)))]
    write_atomically(arguments.out, encode_png(sheet([(images[i], others[best[i]]) for i in chosen])))


if __name__ == "__main__":
    main()
