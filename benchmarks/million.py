"""Many small images, made by the code, written as shards and trained on for one epoch: resident memory and images/s.

    python benchmarks/million.py --images 100000     below three minutes of one core
    python benchmarks/million.py                     1,000,000 images: 2.6 GB of shards in --folder, removed afterwards

Images are 16x16 RGB, ten classes that differ in the place of a bright square, and noise: each is a function of its
number, so the set is never in memory. It is written by `write_shards`, read back by `opsin.load`, and trained on by
`opsin.train` with a tiny network, in a process of its own. Printed are resident memory and images/s at each tenth of
the epoch, and images/s of 10,000 images beside those of all. Exit code 1 where memory grew by more than 5 % after the
first tenth, or images/s fell by more than 5 %. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

import opsin
from opsin.data.samples import Bytes, Dataset
from opsin.data.shards.writing import write_shards
from opsin.data.sources import Annotated
from opsin.io.images import DecodedImage, Sides
from opsin.training.engine.hooks import Callback, StepContext

SIDE = 16
NUM_CLASSES = 10
NUM_VAL = 1000
FEW = 10_000
TOLERANCE = 0.05
TENTHS = 10
SETTINGS = {
    "model": "plain",
    "filters": (8,),
    "dense": (),
    "epochs": 1,
    "batch_size": 250,
    "lr": 0.01,
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "preflight": False,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeSource(Annotated):
    """Images that are functions of their numbers, from `first` on."""

    first: int
    channels: int = 3
    size: tuple[int, int] = (SIDE, SIDE)
    content: str = "made"
    noise: Bytes = field(default_factory=lambda: np.random.default_rng(0).integers(0, 128, 1 << 20, dtype=np.uint8))

    @classmethod
    def of(cls, count: int, *, first: int, split: str) -> MadeSource:
        """`count` images, of all classes in turn."""
        return cls(ids=Numbered(split, count), first=first, labels=np.arange(count) % NUM_CLASSES)

    def __post_init__(self) -> None:
        """Ids are text."""

    def image(self, i: int) -> Bytes:
        """uint8 [3, 16, 16]: noise from a place that the number chooses, its number in the corner, a bright square."""
        number = self.first + i
        start = number * 7919 % (len(self.noise) - 3 * SIDE * SIDE)
        pixels = self.noise[start : start + 3 * SIDE * SIDE].reshape(3, SIDE, SIDE).copy()
        pixels[0, 0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)
        row, column = divmod(i % NUM_CLASSES, 4)
        pixels[:, 4 * row + 1 : 4 * row + 4, 4 * column : 4 * column + 4] += 100
        return pixels

    def read(self, i: int, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
        """Image `i`."""
        return DecodedImage(pixels=self.image(i))

    def mask(self, i: int, image: DecodedImage | None = None) -> Bytes | None:
        """None."""
        return None


class Numbered(list[str]):
    """Names that are made when they are asked for."""

    def __init__(self, split: str, count: int) -> None:
        super().__init__()
        self.split, self.count = split, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> str:  # type: ignore[override]
        return f"{self.split}/{i:07d}"


def made(count: int) -> Dataset:
    """`count` training images, and some for val."""
    splits = {"train": MadeSource.of(count, first=0, split="train")}
    splits["val"] = MadeSource.of(NUM_VAL, first=count, split="val")
    classes = tuple(map(str, range(NUM_CLASSES)))
    return Dataset(name="made", task="classify", classes=classes, splits=splits, layout="made")  # type: ignore[arg-type]


def resident_bytes() -> int:
    """Memory of this process that is in use and no file's."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["RssAnon"].split()[0])


class Watch(Callback):
    """Notes memory and time at each tenth of the epoch."""

    def __init__(self, count: int) -> None:
        self.every = max(1, count // SETTINGS["batch_size"] // TENTHS)  # type: ignore[operator]
        self.rows: list[dict[str, float]] = []
        self._times = (time.monotonic(), time.process_time())

    def on_step(self, step: StepContext) -> None:
        """Every tenth of the steps."""
        if step.step % self.every:
            return
        now = (time.monotonic(), time.process_time())
        images = self.every * SETTINGS["batch_size"]  # type: ignore[operator]
        wall, cpu = (images / (after - before) for after, before in zip(now, self._times, strict=True))
        self.rows.append({"step": step.step, "resident_mb": resident_bytes() / 1e6, "per_s": wall, "per_cpu_s": cpu})
        self._times = now


def train(folder: Path, count: int) -> None:
    """Train on the shards in `folder` for one epoch; print what was noted, as JSON."""
    watch = Watch(count)
    began = time.monotonic()
    run = opsin.train(
        str(folder / "shards"), out=folder / "runs", name=f"n{count}", quiet=True, callbacks=[watch], **SETTINGS
    )
    accuracy = run.scores["val"]["accuracy"].value
    print(json.dumps({"rows": watch.rows, "seconds": time.monotonic() - began, "accuracy": accuracy}))


@dataclass(kw_only=True)
class Outcome:
    """A training: rows of `Watch`, seconds in all, accuracy on val."""

    rows: list[dict[str, float]]
    seconds: float
    accuracy: float

    @cached_property
    def per_cpu_s(self) -> float:
        """Images for each second of processor time; a tenth that another program slowed does not count."""
        return statistics.median(row["per_cpu_s"] for row in self.rows[1:] or self.rows)

    @property
    def growth(self) -> float:
        """Growth of memory after the first tenth, as a share."""
        return max(row["resident_mb"] for row in self.rows) / self.rows[0]["resident_mb"] - 1


def measured(folder: Path, count: int) -> Outcome:
    """Write `count` images as shards, train on them in a process of its own, and remove them."""
    place = folder / f"n{count}"
    began = time.process_time()
    written = write_shards(made(count), place / "shards")
    size = written.num_bytes / 1e6
    print(f"{count:,} images: {written.num_shards} shards, {size:,.0f} MB, {time.process_time() - began:.0f} s of CPU")
    command = [sys.executable, __file__, "--train", str(place), "--images", str(count)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    shutil.rmtree(place)
    return Outcome(**json.loads(answer.stdout.splitlines()[-1]))


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the shards are written; by default a temporary folder")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train is not None:
        train(asked.train, asked.images)
        return 0
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        few, many = (measured(Path(folder), count) for count in (FEW, asked.images))
    for tenth, row in enumerate(many.rows, 1):
        print(
            f"{tenth:3} tenths  {row['resident_mb']:7.1f} MB  {row['per_s']:9,.0f} images/s"
            f"  {row['per_cpu_s']:9,.0f} per second of CPU"
        )
    ratio = many.per_cpu_s / few.per_cpu_s
    print(f"val accuracy {many.accuracy:.4f}; {many.seconds:.0f} s in all")
    print(f"memory after the first tenth: {100 * many.growth:+.1f} %")
    print(f"images per second of CPU: {many.per_cpu_s:,.0f}, of {FEW:,} images {few.per_cpu_s:,.0f}: ratio {ratio:.3f}")
    return 0 if many.growth <= TOLERANCE and ratio >= 1 - TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
