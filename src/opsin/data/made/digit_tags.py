"""Digit tags: one to four handwritten digits on a black canvas, tagged with the digits present. Generated.

The digits are divided first and the scenes made of them afterwards, so that no digit is in two splits; a digit of
val or test is in at most one scene, so that their scenes are independent of each other. A scene is a function
of (seed, split, number).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from opsin.config import DataConfig
from opsin.data.catalogue import ENTRIES
from opsin.data.made.digit_scenes import DIGIT_PX, chosen_digits, digits_by_split, digits_folder
from opsin.data.readers.found import Found
from opsin.data.samples import Source, numbered_ids
from opsin.data.sources import ArraySource
from opsin.errors import DataError
from opsin.types import SPLITS, SplitName

CELL_PX = 32
"""Each digit is in its own one of four cells, so that none covers another."""
MOST_DIGITS = 4
NUM_SCENES = 10_000
"""Default number of training scenes."""


def read_digit_tags(root: str | Path | None, config: DataConfig) -> Found:
    """The catalogue's `digit_tags`: MNIST where it is under `root`, else scikit-learn's digits.

    Args:
        root: folder of the catalogue's data sets, or None.
        config: number of training scenes, source of the digits, the seed and the share of val.
    """
    entry, folder, seed = ENTRIES["digit_tags"], digits_folder(root, config), config.split_seed
    name = "digits" if folder is None else "mnist"
    digits = digits_by_split(name, folder, config)
    counts = {split: len(digits[split]) // MOST_DIGITS for split in SPLITS}
    counts["train"] = config.scenes or NUM_SCENES
    what = "MNIST" if folder is not None else "scikit-learn's embedded digits"
    side = 2 * CELL_PX
    return Found(
        name=entry.name,
        task=entry.task,
        classes=entry.classes,
        layout=f"generated: 1 to {MOST_DIGITS} digits on {side}x{side} px",
        splits={split: make_tag_scenes(digits[split], counts[split], seed=seed, split=split) for split in SPLITS},
        published=True,
        root=folder,
        notes=(f"scenes of {what}; seed {seed}; no digit is in two splits",),
        description=entry.description,
    )


def make_tag_scenes(digits: Source, count: int, *, seed: int, split: SplitName) -> ArraySource:
    """Scenes of one to four digits each.

    Args:
        digits: grey images of 28x28 px with labels of 10 classes.
        count: number of scenes; digits are reused where there are fewer.
        seed: seed of everything random in them.
        split: split of the scenes; each has its own random numbers.

    Returns:
        `images` uint8 `[count, 1, 64, 64]`, `tags` uint8 `[count, 10]`.
    """
    if digits.labels is None:
        raise DataError("scenes need digits with labels", got="no labels", do="give `labels`")
    chosen = chosen_digits(len(digits), MOST_DIGITS * count, seed, f"{split}/tags").reshape(count, MOST_DIGITS)
    images = np.zeros((count, 1, 2 * CELL_PX, 2 * CELL_PX), np.uint8)
    tags = np.zeros((count, 10), np.uint8)
    for i, four in enumerate(chosen):
        generator = np.random.default_rng([seed, SPLITS.index(split), i, 4])
        shown = four[: int(generator.integers(1, MOST_DIGITS, endpoint=True))]
        cells = generator.permutation(MOST_DIGITS)
        places = generator.integers(0, CELL_PX - DIGIT_PX, (MOST_DIGITS, 2), endpoint=True)
        for digit, cell, (down, right) in zip(shown, cells, places, strict=False):
            top, left = CELL_PX * (cell // 2) + down, CELL_PX * (cell % 2) + right
            images[i, 0, top : top + DIGIT_PX, left : left + DIGIT_PX] = digits.image(int(digit))[0]
            tags[i, digits.labels[digit]] = 1
    return ArraySource(images=images, tags=tags, ids=numbered_ids(split, count))
