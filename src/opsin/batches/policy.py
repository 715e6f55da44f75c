"""The magnitudes of augmentation of each image: the settings, and a random policy.

A *knob* is the magnitude of one augmentation, a number per image; knobs that are off are missing, so that they cost
nothing.
The policy `random_ops` draws a few kinds per image and raises their knobs: the whole batch is still
changed by the same few tensor operations. (torchvision's policies are in `image_policy.py`.)

Source: Cubuk et al., "RandAugment", arXiv 1909.13719, for the idea. `random_ops` is not RandAugment: the size of a
change is uniform up to the strength, as in TrivialAugment (arXiv 2103.10158), the kinds are those available for
batches, no kind is drawn twice for an image, and the order of the kinds is fixed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from opsin.batches.draws import Draws
from opsin.config import AugmentConfig
from opsin.errors import ConfigError

Knobs = Mapping[str, Tensor]
"""Knobs by name, each float64 [B]; knobs that are off for all images are missing."""

MOVING = ("flip", "flip_vertical", "quarter_turns", "shift", "rotate", "scale", "shear", "elastic")
COLOURING = ("brightness", "contrast", "saturation", "hue", "blur", "cutout")
"""Settings used directly as knobs. `crop_area` is the knob `crop`: the largest share of the area cut off."""

RESAMPLING = ("rotate", "scale", "shear", "elastic")
"""Those that interpolate, as `crop_area` does."""

POLICY = {
    "rotate": 30.0,
    "shear": 17.0,
    "scale": 0.4,
    "brightness": 0.9,
    "contrast": 0.9,
    "saturation": 0.9,
    "blur": 2.0,
}
"""The choices of the policy, at strength 1. Angles and factors as in the paper's code."""
POLICY_STRENGTH = 0.5
"""Default strength."""
POLICY_SIDES = {"shift": 0.3, "cutout": 0.5}
"""Likewise, as shares of the shorter side."""


def resamples(config: AugmentConfig) -> bool:
    """Whether images are cropped, zoomed or turned, so that their pixels are interpolated."""
    return config.crop_area < 1 or config.policy == "random_ops" or any(getattr(config, name) for name in RESAMPLING)


def knobs_of(config: AugmentConfig, draws: Draws, *, channels: int, side: int) -> Knobs:
    """The knobs of each image.

    Args:
        channels: 1 for grey images, which have no saturation to change.
        side: the shorter side in pixels.

    Raises:
        ConfigError: more operations are requested than the policy has.
    """
    limits = {name: float(getattr(config, name)) for name in (*MOVING, *COLOURING)} | {"crop": 1 - config.crop_area}
    knobs = {name: torch.full((len(draws),), limit, dtype=torch.float64) for name, limit in limits.items() if limit}
    if config.policy != "random_ops":
        return knobs
    for name, knob in _drawn(config, draws, channels, side).items():
        knobs[name] = torch.maximum(knobs[name], knob) if name in knobs else knob
    return knobs


def _drawn(config: AugmentConfig, draws: Draws, channels: int, side: int) -> dict[str, Tensor]:
    """The knobs raised by the policy: `policy_ops` different ones for each image."""
    full = POLICY | {name: share * side for name, share in POLICY_SIDES.items()}
    if channels == 1:
        del full["saturation"]
    if config.policy_ops > len(full):
        raise ConfigError("setting `policy_ops` is out of range", got=config.policy_ops, expected=f"0 to {len(full)}")
    chosen = draws.ranks("policy", len(full)) < config.policy_ops
    strength = POLICY_STRENGTH if config.policy_strength is None else config.policy_strength
    drawn = {}
    for column, (name, limit) in enumerate(full.items()):
        amount = limit * strength
        drawn[name] = chosen[:, column] * (round(amount) if name in POLICY_SIDES else amount)
    return {name: knob.double() for name, knob in drawn.items() if knob.any()}
