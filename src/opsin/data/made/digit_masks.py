"""Digit masks: two coloured digits on a cluttered background, with the class of every pixel. Generated.

A small set for segmentation that needs no files. The digits are those that come with scikit-learn. They are divided
first and the scenes made of them afterwards, so that no digit is in two splits; a digit of val or test stands in
one scene, so that their scenes are independent of each other. A scene is a function of (seed, split, number).

There are distractors too: background colours that vary across the image, and fragments of other digits.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.random import Generator

from opsin.config import DataConfig
from opsin.data.catalogue import ENTRIES
from opsin.data.made.digit_scenes import DIGIT_PX, chosen_digits, digits_by_split
from opsin.data.readers.found import Found
from opsin.data.readers.mask_sources import FOREGROUND_CLASSES
from opsin.data.samples import Bytes, Source, numbered_ids
from opsin.data.sources import ArraySource
from opsin.ops.resize import fit_image
from opsin.types import SPLITS, SizePolicy, SplitName

CANVAS_PX = 48
NUM_SCENES = 1_000
"""Default number of training scenes."""
SIDES_PX = (18, 24)
"""Shortest and longest side of a digit's square; two of them fit side by side."""
PIECES = 2
PIECE_PX = (6, 9)
"""Number of fragments of other digits in a scene, and their sides in pixels."""
PATCHES = 3
"""Colours of the background along each side."""
INK = 128
"""Least ink value, of 255, of a pixel of the digit's class."""


def read_digit_masks(root: str | Path | None, config: DataConfig) -> Found:
    """The catalogue's `digit_masks`: each split made of its own digits.

    Args:
        root: not used; every generated set has this argument.
        config: number of training scenes, the seed and the share of val.
    """
    entry, seed = ENTRIES["digit_masks"], config.split_seed
    digits = digits_by_split("digits", None, config)
    counts = {split: len(digits[split]) // 2 for split in SPLITS} | {"train": config.scenes or NUM_SCENES}
    made = {split: make_mask_scenes(digits[split], counts[split], seed=seed, split=split) for split in SPLITS}
    return Found(
        name=entry.name,
        task=entry.task,
        classes=FOREGROUND_CLASSES if config.classes == "foreground" else entry.classes,
        layout=f"generated: {CANVAS_PX}x{CANVAS_PX} px, two digits and {PIECES} pieces of others",
        splits={split: _of_classes(scenes, config) for split, scenes in made.items()},
        published=True,
        notes=(f"scenes of scikit-learn's embedded digits; seed {seed}; no digit is in two splits",),
        description=entry.description,
    )


def _of_classes(scenes: ArraySource, config: DataConfig) -> ArraySource:
    """The scenes, with all digits merged into one class where `classes` is foreground."""
    if config.classes == "all" or scenes.masks is None:
        return scenes
    return replace(scenes, masks=np.minimum(scenes.masks, 1))


def make_mask_scenes(digits: Source, count: int, *, seed: int, split: SplitName) -> ArraySource:
    """Scenes of two digits each.

    Args:
        digits: grey images of 28x28 px with labels.
        count: number of scenes; digits are reused where there are fewer.
        seed: seed of everything random in them.
        split: split of the scenes; each has its own random numbers.

    Returns:
        `images` uint8 `[count, 3, 48, 48]`, `masks` uint8 `[count, 48, 48]`: 0 is background, k + 1 the digit k.
    """
    chosen = chosen_digits(len(digits), 2 * count, seed, f"{split}/masks").reshape(count, 2)
    images = np.empty((count, 3, CANVAS_PX, CANVAS_PX), np.uint8)
    masks = np.zeros((count, CANVAS_PX, CANVAS_PX), np.uint8)
    for i, pair in enumerate(chosen):
        generator = np.random.default_rng([seed, SPLITS.index(split), i, 3])
        images[i] = _background(digits, generator)
        upright = bool(generator.integers(2))
        for half, digit in enumerate(pair):
            ink, top, left = _placed(digits.image(int(digit))[0], half, generator)
            if upright:
                top, left = left, top
            _colour_in(images[i], ink, top, left, generator)
            label = 0 if digits.labels is None else int(digits.labels[digit])
            masks[i, top : top + len(ink), left : left + len(ink)][ink >= INK] = label + 1
    return ArraySource(images=images, masks=masks, ids=numbered_ids(split, count))


def _background(digits: Source, generator: Generator) -> Bytes:
    """A colour gradient with fragments cut from digits: uint8 `[3, 48, 48]`."""
    patches = generator.integers(0, 256, (3, PATCHES, PATCHES), dtype=np.uint8)
    canvas = fit_image(patches, SizePolicy(height=CANVAS_PX, width=CANVAS_PX)).copy()
    for _ in range(PIECES):
        digit = digits.image(int(generator.integers(len(digits))))[0]
        side = int(generator.integers(*PIECE_PX, endpoint=True))
        top, left = generator.integers(4, DIGIT_PX - 4 - side, 2, endpoint=True)
        place = generator.integers(0, CANVAS_PX - side, 2, endpoint=True)
        _colour_in(canvas, digit[top : top + side, left : left + side], int(place[0]), int(place[1]), generator)
    return canvas


def _placed(digit: Bytes, half: int, generator: Generator) -> tuple[Bytes, int, int]:
    """A digit in a new size, uint8 `[side, side]`, and its first row and column in the left or the right half."""
    side = int(generator.integers(*SIDES_PX, endpoint=True))
    top = int(generator.integers(0, CANVAS_PX - side, endpoint=True))
    left = int(generator.integers(0, CANVAS_PX // 2 - side, endpoint=True))
    return fit_image(digit[None], SizePolicy(height=side, width=side))[0], top, left + half * CANVAS_PX // 2


def _colour_in(canvas: Bytes, ink: Bytes, top: int, left: int, generator: Generator) -> None:
    """Paint ink uint8 `[side, side]` into the canvas, in a colour that contrasts with the background there."""
    place = canvas[:, top : top + len(ink), left : left + len(ink)]
    far = place.mean((1, 2)) + 128 + generator.integers(-40, 40, 3, endpoint=True)
    share = (ink / 255)[None]
    place[:] = np.rint(place * (1 - share) + (far % 256)[:, None, None] * share).astype(np.uint8)
