"""Settings of the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from opsin.config.checks import require
from opsin.types import FitName

NormalizeName = Literal["none", "unit", "signed", "standard", "learned", "weights"]
WINDOW = 16384
"""Samples in shards among which one is shuffled."""
MaskClassesName = Literal["all", "foreground"]
OF_DATA = "of the data"
"""Marks a setting that is found out from the data where nobody gives it."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples are used, and at what size.

    Parameters
    ----------
    subset
        First n samples of a split in the publisher's order, e.g. `train=10000,test=2000`.
    val_fraction
        Share of `train` held out as `val` where the set has no val split of its own.
    stratify
        Preserve class shares when a split is drawn.
    split_seed
        Seed of the drawn splits. Independent of the run's seed, so that runs of different seeds share splits.
    label_level
        Label level of a data set with several, e.g. `fine` or `coarse` for cifar100.
    classes
        Classes of masks: `all`, or `foreground`, which merges all but the background into one class.
    unused_classes
        Classes beyond the data's own, of which there is no image: the network has an output for each that no label
        ever asks for. It shows what a head of the wrong size does.
    number_columns
        Columns of a table with the numbers to predict; by default `value`, or `values` with several per cell.
    input_size
        Side of the network's square input in pixels; its height where input_width is given.
    input_width
        Width of the network's input, where it is not square.
    fit
        How images of other shapes are fitted to the input: squash, crop or pad.
    pack_scale
        Size at which training photos are also packed, in sides of the input, for augmentation that crops, zooms or
        turns: a crop of them enlarges no small pixels. At most the size of the photos; 1 is off. Val, test and
        prediction never see it.
    bits
        Bits a channel, from the file to the network: 16 where any training file, PNG or TIFF, has them, else 8. With 8
        they are rounded.
    normalize
        none [0, 255], unit [0, 1], signed [-1, 1], standard (per-channel mean 0, sd 1 on train), learned, or weights:
        what the pretrained weights expect, the only choice with such weights.
    allow_leaks
        Continue although images are shared between splits.
    test_as_val
        Use the test split as val, so that epochs are chosen by it. Its scores are then not test scores, and every
        output says so.
    shuffle_window
        Places by which a sample of a set in shards may move when train is shuffled; the shards themselves come in
        another order in each epoch. Other sets are shuffled whole.
    skip_unreadable
        Skip up to this many unreadable samples per split; each is named and counted.
    box_units
        Unit of the boxes of arrays and tables: pixels, normalized (shares of the sides), or auto: detected and printed.
    box_frame
        Frame of the boxes of a photo with EXIF orientation: upright or stored pixels, or auto.
    clip_boxes
        Clip boxes at the edge of their image instead of refusing those that reach outside; clipped boxes are counted.
    scenes
        Number of training scenes of digit_scenes and digit_masks.
    scene_digits
        Source of the digits of digit_scenes: mnist, digits (embedded), or auto: mnist if it is under the root.
    scene_clutter
        Fragments of other digits per scene of digit_scenes.
    scene_scale
        Largest relative change of the digit's size in digit_scenes, e.g. 0.5 for 0.5 to 1.5.
    scene_noise
        Standard deviation of the noise of digit_scenes, in grey levels of 255.
    scene_outside
        Largest share of a side by which a digit of digit_scenes may lie outside; its box ends at the edge.
    """

    subset: str | None = None
    val_fraction: float = 0.1
    stratify: bool = True
    split_seed: int = 0
    label_level: str | None = None
    classes: MaskClassesName = "all"
    unused_classes: int = 0
    number_columns: tuple[str, ...] | None = None
    input_size: int | None = None
    input_width: int | None = None
    fit: FitName = "squash"
    pack_scale: float = 1.0
    bits: int = field(default=8, metadata={OF_DATA: True})
    normalize: NormalizeName = "standard"
    allow_leaks: bool = False
    test_as_val: bool = False
    skip_unreadable: int = 0
    shuffle_window: int = WINDOW
    box_units: Literal["auto", "pixels", "normalized"] = "auto"
    box_frame: Literal["auto", "upright", "stored"] = "auto"
    clip_boxes: bool = False
    scenes: int | None = None
    scene_digits: Literal["auto", "mnist", "digits"] = "auto"
    scene_clutter: int = 0
    scene_scale: float = 0.0
    scene_noise: float = 0.0
    scene_outside: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "0 < x < 1")
        require(self.input_size is None or 1 <= self.input_size <= 4096, "input_size", self.input_size, "1 to 4096")
        require(self.input_width is None or 1 <= self.input_width <= 4096, "input_width", self.input_width, "1 to 4096")
        require(0 <= self.unused_classes <= 1000, "unused_classes", self.unused_classes, "0 to 1000")
        require(1 <= self.pack_scale <= 4, "pack_scale", self.pack_scale, "1 to 4")
        require(self.bits in (8, 16), "bits", self.bits, "8 or 16")
        both = self.input_width is None or self.input_size is not None
        require(both, "input_width", self.input_width, "an input size, which is then the height")
        require(self.skip_unreadable >= 0, "skip_unreadable", self.skip_unreadable, "0 or more")
        require(0 <= self.shuffle_window <= 1 << 31, "shuffle_window", self.shuffle_window, "0 to 2,147,483,648")
        require(self.scenes is None or self.scenes > 0, "scenes", self.scenes, "1 or more")
        require(0 <= self.scene_clutter <= 100, "scene_clutter", self.scene_clutter, "0 to 100")
        require(0 <= self.scene_scale <= 0.8, "scene_scale", self.scene_scale, "0 to 0.8")
        require(0 <= self.scene_noise <= 255, "scene_noise", self.scene_noise, "0 to 255")
        require(0 <= self.scene_outside <= 0.5, "scene_outside", self.scene_outside, "0 to 0.5")
