"""Settings of augmentation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from opsin.config.checks import former, require

PolicyName = Literal["none", "random_ops", "rand_augment", "trivial_augment_wide"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation of training batches, never of val or test. A setting of 0 is off.

    Parameters
    ----------
    flip
        Mirror left and right: share of the epochs, spread evenly for each image.
    flip_vertical
        Mirror top and bottom: share of the epochs, spread evenly over those with and without `flip`.
    quarter_turns
        Rotate by 90, 180 or 270 degrees, without resampling: share of the epochs, at random. Square images only.
    shift
        Largest shift along each side, in pixels.
    shift_fill
        Fill at the edge of a shifted, rotated or scaled image: reflect or black.
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
        Random operations per image, in addition to the above. random_ops draws from the above and moves boxes and masks
        too. rand_augment and trivial_augment_wide are torchvision's, for classification only: one image at a time on
        the CPU, about 4,000 and 7,000 images of 32x32 px per second on one core.
    policy_ops
        Operations that random_ops and rand_augment apply to each image.
    policy_strength
        Strength of their operations, 0 to 1. By default 0.5 for random_ops and 0.3 for rand_augment, which is
        torchvision's default magnitude of 9 out of 30. trivial_augment_wide draws its own.
    """

    flip: float = 0.0
    flip_vertical: float = 0.0
    quarter_turns: float = 0.0
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
    policy: PolicyName = field(default="none", metadata=former(randaugment="random_ops"))
    policy_ops: int = 2
    policy_strength: float | None = None

    def __post_init__(self) -> None:
        for name in ("flip", "flip_vertical", "quarter_turns"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        strength = self.policy_strength
        require(strength is None or 0 <= strength <= 1, "policy_strength", strength, "0 to 1")
        require(self.policy in get_args(PolicyName), "policy", self.policy, ", ".join(get_args(PolicyName)))
        for name in ("brightness", "contrast", "saturation", "scale"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 <= x < 1")
        for name in ("shift", "elastic", "blur", "cutout", "mixup", "cutmix", "policy_ops"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.rotate <= 180, "rotate", self.rotate, "0 to 180 degrees")
        require(0 <= self.shear < 80, "shear", self.shear, "0 to 80 degrees")
        require(0 < self.crop_area <= 1, "crop_area", self.crop_area, "0 < x <= 1")
        require(0 <= self.hue <= 0.5, "hue", self.hue, "0 to 0.5 turns")
