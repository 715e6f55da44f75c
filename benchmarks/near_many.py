"""Near copies among many images: seconds of CPU and memory of the search, and what it finds of copies put in.

    python benchmarks/near_many.py --images 20000 40000

Thumbnails are random, made block by block; one in a hundred is a copy of another, a little brighter. Printed for each
number of images: seconds of CPU, growth of memory that is no file's, copies found, and seconds that 10^5 and 10^6 would
take, since the work grows with the square. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np

from opsin.data.quality.near import THUMB, near_pairs
from opsin.data.samples import Bytes
from opsin.io import spill

BLOCK = 1000
EVERY = 100
FORECAST = (100_000, 1_000_000)


def thumbs(count: int) -> Bytes:
    """uint8 [count, 3, 32, 32]: smooth noise; image 100 k + 1 is a brighter image 100 k."""
    rng = np.random.default_rng(0)
    found = spill.zeros((count, 3, THUMB, THUMB), np.uint8)
    for start in range(0, count, BLOCK):
        block = rng.integers(0, 200, (min(BLOCK, count - start), 3, THUMB // 2, THUMB // 2), dtype=np.uint8)
        block[1::EVERY] = block[0::EVERY][: len(block[1::EVERY])] + 20
        found[start : start + len(block)] = block.repeat(2, axis=2).repeat(2, axis=3)
    return found


def own_bytes() -> int:
    """Memory of this process that is in use and no file's."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["RssAnon"].split()[0])


def searched(images: Bytes) -> tuple[float, int, int]:
    """Seconds of CPU, growth of memory at the peak in bytes, and the number of copies found."""
    before, ended = own_bytes(), threading.Event()
    peak = [before]

    def watch() -> None:
        while not ended.wait(0.05):
            peak[0] = max(peak[0], own_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.process_time()
    pairs = near_pairs(images)
    seconds = time.process_time() - began
    ended.set()
    watcher.join()
    return seconds, peak[0] - before, len(pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 40_000])
    searched(thumbs(1000))  # the first search also loads what it needs
    for count in parser.parse_args().images:
        seconds, grown, found = searched(thumbs(count))
        later = ", ".join(f"{seconds * (more / count) ** 2:,.0f} s for {more:,}" for more in FORECAST)
        print(
            f"{count:,} images: {seconds:.1f} s of CPU, {grown / 1e6:+.0f} MB, {found} of {count // EVERY} copies;"
            f" {later}"
        )


if __name__ == "__main__":
    main()
