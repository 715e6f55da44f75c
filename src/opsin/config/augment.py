"""Settings of augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opsin.config.checks import require

PolicyName = Literal["none", "randaugment"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training batches. Never applied to val or test. The zero of each knob is "off".

    Parameters
    ----------
    flip
        Mirror left and right: share of the epochs, evenly spread over them for each image.
    flip_vertical
        Mirror top and bottom: probability.
    shift
        Largest shift along each side, in pixels.
    shift_fill
        What enters at the edge of a shifted, rotated or scaled image: reflect or black.
    rotate
        Largest rotation in degrees, either way.
    scale
        Largest relative change of scale, e.g. 0.1 for 0.9 to 1.1.
    shear
        Largest shear in degrees, either way.
    elastic
        Largest displacement by a smooth elastic distortion, in pixels.
    crop_area
        Smallest area share of a random resized crop; 1 is off.
    brightness
        Largest relative change of brightness.
    contrast
        Largest relative change of contrast.
    saturation
        Largest relative change of saturation.
    hue
        Largest shift of hue, in turns (0 to 0.5).
    blur
        Largest standard deviation of a Gaussian blur, in pixels.
    cutout
        Side of a square set to the mean colour, in pixels.
    mixup
        Alpha of MixUp's Beta distribution.
    cutmix
        Alpha of CutMix's Beta distribution.
    policy
        A policy over all of the above: randaugment.
    policy_ops
        Operations that the policy applies to each image.
    policy_strength
        Strength of the policy's operations, 0 to 1.
    """

    flip: float = 0.0
    flip_vertical: float = 0.0
    shift: int = 0
    shift_fill: Literal["reflect", "black"] = "reflect"
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    crop_area: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    policy: PolicyName = "none"
    policy_ops: int = 2
    policy_strength: float = 0.5

    def __post_init__(self) -> None:
        for name in ("flip", "flip_vertical", "policy_strength"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        for name in ("brightness", "contrast", "saturation", "scale"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 <= x < 1")
        for name in ("shift", "elastic", "blur", "cutout", "mixup", "cutmix", "policy_ops"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.rotate <= 180, "rotate", self.rotate, "0 to 180 degrees")
        require(0 <= self.shear < 80, "shear", self.shear, "0 to 80 degrees")
        require(0 < self.crop_area <= 1, "crop_area", self.crop_area, "0 < x <= 1")
        require(0 <= self.hue <= 0.5, "hue", self.hue, "0 to 0.5 turns")
