"""Digit scenes: handwritten digits placed at random on a black canvas, with their boxes. Generated.

A scene is a function of (seed, split, number), so that a smaller set is a prefix of a larger one. The digits are
divided first and the scenes made of them afterwards: no digit is in two splits. Each digit of val and test stands
in one scene, so that their scenes are independent of each other; train reuses its digits at other positions, in a
new order each time, until there are as many scenes as requested.

A digit's box is the whole square that it was written in, 28 x 28 pixels as in the courses, not the tight box around
its ink.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from opsin.config import DataConfig
from opsin.data.catalogue import ENTRIES, ROOT_VARIABLE, locate
from opsin.data.readers.found import Found
from opsin.data.readers.publishers import READERS
from opsin.data.samples import Boxes, Bytes, Ints, Source, numbered_ids
from opsin.data.sources import ArraySource
from opsin.data.splits import divide, hold_out
from opsin.ops import random
from opsin.ops.resize import fit_image
from opsin.types import SPLITS, SizePolicy, SplitName

CANVAS_PX = 75
DIGIT_PX = 28
NUM_SCENES = {"mnist": 60_000, "digits": 10_000}
"""Training scenes by the set that the digits come from."""
PIECE_PX = (6, 12)
"""Shortest and longest side of a piece of clutter."""


@dataclass(frozen=True, kw_only=True)
class SceneOptions:
    """Difficulty of the scenes; each field means what `scene_…` means in `DataConfig`."""

    clutter: int = 0
    scale: float = 0.0
    noise: float = 0.0
    outside: float = 0.0

    @classmethod
    def of(cls, config: DataConfig) -> SceneOptions:
        """The options from a run's settings."""
        return cls(
            clutter=config.scene_clutter,
            scale=config.scene_scale,
            noise=config.scene_noise,
            outside=config.scene_outside,
        )

    def __str__(self) -> str:
        """The options as text."""
        words = {
            f"{self.clutter} pieces of clutter": self.clutter,
            f"sizes {1 - self.scale:g} to {1 + self.scale:g}": self.scale,
            f"noise of {self.noise:g} grey levels": self.noise,
            f"up to {self.outside:.0%} outside": self.outside,
        }
        return ", ".join(word for word, wanted in words.items() if wanted) or "plain"


def read_scenes(root: str | Path | None, config: DataConfig) -> Found:
    """The catalogue's `digit_scenes`: MNIST where it is under `root`, else scikit-learn's digits.

    Args:
        root: folder of the catalogue's data sets, or None.
        config: number of scenes, their difficulty, the seed and the share of val.

    Raises:
        DataError: MNIST's files are inconsistent.
        ArrayError: a file of MNIST is damaged.
    """
    entry, folder = ENTRIES["digit_scenes"], digits_folder(root, config)
    name = "digits" if folder is None else "mnist"
    digits = digits_by_split(name, folder, config)
    options, seed = SceneOptions.of(config), config.split_seed
    counts = {split: len(digits[split]) for split in SPLITS} | {"train": config.scenes or NUM_SCENES[name]}
    what = "MNIST" if folder is not None else "scikit-learn's embedded digits"
    notes = [f"scenes of {what}, {options}; seed {seed}; no digit is in two splits"]
    if folder is None and root is not None and config.scene_digits == "auto":
        notes.append(f"no MNIST under {root} (MNIST/raw), so the digits are scikit-learn's")
    return Found(
        name=entry.name,
        task=entry.task,
        classes=entry.classes,
        layout=f"generated: {DIGIT_PX}x{DIGIT_PX} digits on {CANVAS_PX}x{CANVAS_PX} px, boxes xyxy in pixels",
        splits={split: make_scenes(digits[split], counts[split], options, seed=seed, split=split) for split in SPLITS},
        published=True,
        root=folder,
        notes=tuple(notes),
        description=entry.description,
    )


def make_scenes(digits: Source, count: int, options: SceneOptions, *, seed: int, split: SplitName) -> ArraySource:
    """Scenes of the digits.

    Args:
        digits: grey images of 28x28 px with labels.
        count: number of scenes; digits are reused where there are fewer.
        options: difficulty of the scenes.
        seed: seed of everything random in them.
        split: split of the scenes; each has its own random numbers.

    Returns:
        `images` uint8 `[count, 1, 75, 75]`, `boxes` float32 `[count, 4]` xyxy in pixels, `labels` int64 `[count]`.
    """
    chosen = chosen_digits(len(digits), count, seed, split)
    sides = _sides(count, options, seed, split)
    corners = _corners(sides, options, seed, split)
    canvases = np.zeros((count, 1, CANVAS_PX, CANVAS_PX), np.uint8)
    for i in range(count):
        canvas = canvases[i, 0]
        _add_clutter(canvas, digits, i, options.clutter, seed, split)
        _paste(canvas, _sized(digits.image(int(chosen[i])), int(sides[i])), *corners[i])
        _add_noise(canvas, i, options.noise, seed, split)
    return ArraySource(
        images=canvases,
        labels=None if digits.labels is None else digits.labels[chosen],
        boxes=visible_boxes(corners, sides),
        ids=numbered_ids(split, count),
    )


def visible_boxes(corners: Ints, sides: Ints) -> Boxes:
    """Boxes float32 `[N, 4]` of squares by their (y, x) corners `[N, 2]` and sides `[N]`, cut at the canvas."""
    low = corners[:, ::-1]
    boxes = np.concatenate([low, low + sides[:, None]], axis=1)
    visible: Boxes = np.clip(boxes, 0, CANVAS_PX).astype(np.float32)
    return visible


def digits_folder(root: str | Path | None, config: DataConfig) -> Path | None:
    """Folder of MNIST, or None for the embedded digits."""
    if config.scene_digits != "auto":
        return locate(ENTRIES[config.scene_digits], root)
    base = root if root is not None else os.environ.get(ROOT_VARIABLE)
    folder = None if base is None else Path(base).expanduser() / ENTRIES["mnist"].folder
    return folder if folder is not None and folder.is_dir() else None


def digits_by_split(name: str, folder: Path | None, config: DataConfig) -> dict[SplitName, Source]:
    """The digits of each split, grey, 28x28 px, of `mnist` in `folder` or of `digits`."""
    found = READERS[name](folder or Path(), None)
    if "pool" in found:
        return divide(_enlarged(found["pool"]), config)
    splits: dict[SplitName, Source] = found["splits"]
    return {**hold_out(splits["train"], config), "test": splits["test"]}


def _enlarged(digits: ArraySource) -> ArraySource:
    policy = SizePolicy(height=DIGIT_PX, width=DIGIT_PX)
    images = np.stack([fit_image(image, policy) for image in digits.images])
    return ArraySource(images=images, labels=digits.labels, ids=digits.ids)


def chosen_digits(num_digits: int, count: int, seed: int, split: str) -> Ints:
    """Which digit each scene shows: all of them in one order, then all in another."""
    rounds = -(-count // num_digits)
    orders = [random.permutation(num_digits, seed, turn, f"{split}/digits").numpy() for turn in range(rounds)]
    return np.concatenate(orders)[:count].astype(np.int64)


def _uniform(count: int, seed: int, split: str, stream: str, columns: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), `[count, columns]`; row i depends on i alone."""
    return random.uniform(seed, 0, torch.arange(count), f"{split}/{stream}", columns).double().numpy()


def _sides(count: int, options: SceneOptions, seed: int, split: str) -> Ints:
    change = 1 + options.scale * (2 * _uniform(count, seed, split, "scale", 1)[:, 0] - 1)
    return np.maximum(np.rint(DIGIT_PX * change), 1).astype(np.int64)


def _corners(sides: Ints, options: SceneOptions, seed: int, split: str) -> Ints:
    """(y, x) of each digit's corner, uniformly distributed, `[N, 2]`."""
    beyond = np.floor(options.outside * sides)
    places = CANVAS_PX - sides + 2 * beyond + 1
    drawn = _uniform(len(sides), seed, split, "place", 2) * places[:, None]
    corners: Ints = (np.floor(drawn) - beyond[:, None]).astype(np.int64)
    return corners


def _sized(digit: Bytes, side: int) -> Bytes:
    """A digit uint8 `[1, 28, 28]` as uint8 `[side, side]`."""
    sized: Bytes = fit_image(digit, SizePolicy(height=side, width=side))[0] if side != DIGIT_PX else digit[0]
    return sized


def _paste(canvas: Bytes, pixels: Bytes, top: int, left: int) -> None:
    """Maximum of canvas and pixels; parts outside the canvas are cut off."""
    height, width = pixels.shape
    rows = slice(max(top, 0), min(top + height, CANVAS_PX))
    columns = slice(max(left, 0), min(left + width, CANVAS_PX))
    visible = pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    np.maximum(canvas[rows, columns], visible, out=canvas[rows, columns])


def _add_clutter(canvas: Bytes, digits: Source, i: int, pieces: int, seed: int, split: str) -> None:
    """Fragments cut from other digits, anywhere on the canvas."""
    if not pieces:
        return
    generator = np.random.default_rng([seed, SPLITS.index(split), i, 1])
    for _ in range(pieces):
        digit = digits.image(int(generator.integers(len(digits))))[0]
        side = int(generator.integers(*PIECE_PX, endpoint=True))
        top, left = generator.integers(4, DIGIT_PX - 4 - side, 2, endpoint=True)
        _paste(canvas, digit[top : top + side, left : left + side], *generator.integers(0, CANVAS_PX - side, 2))


def _add_noise(canvas: Bytes, i: int, deviation: float, seed: int, split: str) -> None:
    """Gaussian noise, clipped to 0 to 255."""
    if not deviation:
        return
    generator = np.random.default_rng([seed, SPLITS.index(split), i, 2])
    noise = generator.normal(0, deviation, canvas.shape)
    canvas[:] = np.clip(np.rint(canvas + noise), 0, 255).astype(np.uint8)
