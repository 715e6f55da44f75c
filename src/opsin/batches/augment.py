"""Augmentation of a training batch, on its device: images with their labels, boxes and masks.

    settings + policy -> knobs          policy.py     the magnitudes of each image
    quarter turns                       turns.py      exact: pixels are only permuted
    geometry                            geometry.py   one affine map for each image; boxes and masks move with it
    colours, blur                       colour.py
    torchvision's policies              image_policy.py
    cutout, MixUp, CutMix               mixing.py

The picture of sample `i` in epoch `e` is a function of (seed, e, i) and of the settings: batch size, order of samples,
threads and device change nothing, so a resumed run sees the same images as an uninterrupted one. (The partner of MixUp
and CutMix is the one exception: it is chosen within the batch.) What is off costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from opsin.batches.batch import Batch
from opsin.batches.colour import recolour
from opsin.batches.draws import Draws
from opsin.batches.geometry import move
from opsin.batches.image_policy import apply_policy, is_of_images
from opsin.batches.mixing import cutout, mix
from opsin.batches.policy import knobs_of
from opsin.batches.turns import turn_some
from opsin.config import AugmentConfig, require
from opsin.data.targets import KINDS
from opsin.errors import ConfigError


def augment(
    batch: Batch,
    config: AugmentConfig,
    *,
    seed: int,
    epoch: int,
    num_classes: int,
    size: tuple[int, int] | None = None,
) -> Batch:
    """The augmented batch of this epoch.

    Args:
        batch: images uint8 or float32 [B, C, H, W] in [0, 255], RGB or grey. It is not changed.
        config: the augmentation settings.
        seed: seed of the run.
        epoch: number of the epoch.
        num_classes: classes of the task; mixing labels needs two.
        size: height and width of the result in pixels, where the images are larger (`Samples.larger`); settings in
            pixels are in those of the result.

    Returns:
        A batch of these shapes; images are float32 in [0, 255]. With MixUp or CutMix, `mixed` is filled.

    Raises:
        ConfigError: a setting does not fit the images (size, colour), or the targets (mixing boxes or masks, or
            torchvision's policies with them).
    """
    channels = batch.images.shape[1]
    H, W = size or batch.images.shape[2:]
    _check(batch, config, num_classes, (H, W))
    draws = Draws(seed=seed, epoch=epoch, index=batch.index.cpu())
    knobs = knobs_of(config, draws, channels=channels, side=min(H, W))
    given = batch.images
    batch = move(turn_some(batch, knobs, draws), knobs, draws, config.shift_fill, (H, W))
    images = recolour(_own(batch.images, given), knobs, draws)
    if is_of_images(config):
        images = apply_policy(images, config, draws)
    if "cutout" in knobs:
        images = cutout(images, knobs["cutout"], draws)
    batch = replace(batch, images=images)
    return mix(batch, config, draws) if config.mixup or config.cutmix else batch


def _own(images: Tensor, given: Tensor) -> Tensor:
    """Contiguous float32 images that may be overwritten: a copy if they are still the caller's."""
    return images.to(torch.float32, copy=images is given, memory_format=torch.contiguous_format)


def _check(batch: Batch, config: AugmentConfig, num_classes: int, size: tuple[int, int]) -> None:
    """Refuse settings that do not fit the batch, instead of ignoring them."""
    channels, (H, W) = batch.images.shape[1], size
    side = min(H, W)
    require(config.shift < side, "shift", config.shift, f"less than the side of the images, {side} px")
    require(config.cutout <= side, "cutout", config.cutout, f"at most the side of the images, {side} px")
    turned = f"0 for images that are not square ({H} x {W} px)"
    require(H == W or not config.quarter_turns, "quarter_turns", config.quarter_turns, turned)
    boxed = bool(config.elastic) and not all(KINDS[kind].bends for kind in batch.targets)
    require(not boxed, "elastic", config.elastic, "0 with boxes, which cannot follow it")
    for name in ("saturation", "hue"):
        require(channels == 3 or not getattr(config, name), name, getattr(config, name), "0 for grey images")
    for name in ("mixup", "cutmix"):
        require(num_classes > 1 or not getattr(config, name), name, getattr(config, name), "0 for a single class")
    check_targets(config, tuple(batch.targets))


def check_bits(config: AugmentConfig, bits: int) -> None:
    """Refuse a policy that would round training images of 16 bits a channel to 8, as it does not round those of val.

    Raises:
        ConfigError: one of torchvision's policies with 16 bits.
    """
    if is_of_images(config) and bits > 8:
        raise ConfigError(
            f"policy `{config.policy}` takes 8 bits a channel",
            got=f"policy = {config.policy}, and images of {bits} bits",
            expected="images of 8 bits, or the policy random_ops",
            do="use the policy random_ops, which keeps 16 bits; or give --bits 8",
        )


def check_targets(config: AugmentConfig, kinds: Sequence[str]) -> None:
    """Refuse settings that some kind of target cannot follow.

    Args:
        config: the augmentation settings.
        kinds: kinds of targets, names in `data.targets.KINDS`.

    Raises:
        ConfigError: the settings mix targets that cannot be mixed, or move images by a policy of torchvision's, and
            targets cannot follow.
    """
    if is_of_images(config) and any(KINDS[kind].follows for kind in kinds):
        raise ConfigError(
            f"policy `{config.policy}` does not move boxes or masks",
            got=f"policy = {config.policy}, and targets other than labels",
            expected="a classification task",
            do="use the policy random_ops, which moves boxes and masks too",
        )
    for name in ("mixup", "cutmix"):
        if getattr(config, name) and not (kinds and all(KINDS[kind].mixes for kind in kinds)):
            raise ConfigError(
                f"setting `{name}` can only mix class labels",
                got=f"{name} = {getattr(config, name)}, and targets other than labels",
                expected="a classification task",
                do=f"set {name} to 0",
            )
