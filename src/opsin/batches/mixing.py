"""Covering a square of an image (cutout), and mixing two images and their labels (MixUp, CutMix).

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from opsin.batches.batch import Batch, Mixed
from opsin.batches.draws import Draws
from opsin.config import AugmentConfig


def cutout(images: Tensor, side: Tensor, draws: Draws) -> Tensor:
    """Set a square of each image to the image's mean colour. The square is entirely inside.

    Args:
        images: float32 [B, C, H, W], contiguous; overwritten.
        side: float64 or int64 [B], whole pixels, at most H and W; 0 leaves an image unchanged.

    Source: DeVries, Taylor, arXiv 1708.04552; theirs may be partly outside, and is grey.
    """
    chosen = side.nonzero()[:, 0]
    if len(chosen) == 0:
        return images
    H, W = images.shape[-2:]
    side = side.long()
    top, left = draws.integers("cutout/y", H - side + 1), draws.integers("cutout/x", W - side + 1)
    # Offsets beyond a smaller square fall on its last row: the same pixel twice does no harm.
    steps_BS = torch.minimum(torch.arange(int(side.max())), (side[chosen] - 1)[:, None])
    rows_BS, columns_BS = top[chosen, None] + steps_BS, left[chosen, None] + steps_BS
    pixels_BP = (rows_BS[:, :, None] * W + columns_BS[:, None, :]).flatten(1).to(images.device)
    everyone = len(chosen) == len(images)
    part = images if everyone else images.index_select(0, chosen.to(images.device))
    colour_BCP = mean_colour(part)[:, :, None].expand(-1, -1, pixels_BP.shape[1])
    part.flatten(2).scatter_(2, pixels_BP[:, None].expand_as(colour_BCP), colour_BCP)
    return part if everyone else images.index_copy_(0, chosen.to(images.device), part)


def mean_colour(images: Tensor) -> Tensor:
    """The mean of each channel of each image over rounded pixels: float32 [B, C].

    Sums of whole numbers are exact in any order, so the mean does not depend on the number of threads.
    """
    num_pixels = images.shape[-2] * images.shape[-1]
    exact = torch.float32 if num_pixels * 255 < 1 << 24 else torch.int64
    return images.round().to(exact).sum(dim=(-2, -1)).to(torch.float32) / num_pixels


def mix(batch: Batch, config: AugmentConfig, draws: Draws) -> Batch:
    """Mix each image with a partner from the batch. With MixUp and CutMix both on, each image gets one of them.

    This is the only change that depends on the other samples of the batch. The shares come from the sample alone.

    Args:
        batch: float32 images, with labels; with `partners` only its first rows are given back.

    Returns:
        The batch with `mixed`: the partners' labels, and the share of the first label by area or weight.
    """
    partner = (partners(draws) if batch.partners is None else batch.partners).to(batch.images.device)
    everyone, batch, draws = batch, batch.rows(0, len(partner)), draws.first(len(partner))
    blended = draws.uniform("mix/which") < (0.5 if config.mixup and config.cutmix else float(config.mixup > 0))
    whole = torch.ones(len(draws))
    weight = torch.where(blended, draws.beta("mixup", config.mixup), whole) if config.mixup else whole
    area = torch.where(blended, whole, draws.beta("cutmix", config.cutmix)) if config.cutmix else whole
    inside, kept = _rectangles(area, draws, *batch.images.shape[-2:])
    images, others = batch.images, everyone.images.index_select(0, partner)
    if config.mixup:
        images = images + (1 - weight).to(images.device)[:, None, None, None] * (others - images)
    if config.cutmix:
        images = torch.where(inside.to(images.device)[:, None], others, images)
    if batch.labels is None or everyone.labels is None:
        return replace(batch, images=images, partners=None)
    mixed = Mixed(labels=everyone.labels.index_select(0, partner), share=(weight * kept).to(images.device))
    return replace(batch, images=images, mixed=mixed, partners=None)


def ring_of(config: AugmentConfig, *, seed: int, epoch: int) -> Callable[[Tensor], Tensor] | None:
    """Who is mixed with whom in an epoch: sample numbers int64 [B] of a batch to places in it; None where nobody is."""
    if not config.mixup and not config.cutmix:
        return None
    return lambda index: partners(Draws(seed=seed, epoch=epoch, index=index))


def partners(draws: Draws) -> Tensor:
    """The partner of each image: int64 [B]. A random cycle: no image is its own partner in a batch of two or more."""
    ring = draws.ranks_in_batch("mix/partner")
    partner = torch.empty_like(ring)
    partner[ring] = ring.roll(-1)
    return partner


def _rectangles(kept: Tensor, draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The rectangles that CutMix takes from the partner.

    Args:
        kept: float32 [B], share of the area that should stay.

    Returns:
        bool [B, H, W], true inside; and float32 [B], the share that does stay, as rectangles are cut at the edge.

    Source: Yun et al., "CutMix", arXiv 1905.04899, section 3.1.
    """
    ends = []
    for name, length in (("y", height), ("x", width)):
        extent = (length * torch.sqrt(1 - kept)).round().long()
        start = draws.integers(f"cutmix/{name}", torch.full((len(draws),), length)) - extent // 2
        ends.append((start.clamp(min=0), (start + extent).clamp(max=length)))
    (top, bottom), (left, right) = ends
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= top[:, None]) & (y < bottom[:, None])
    columns = (x >= left[:, None]) & (x < right[:, None])
    share = 1 - (rows.sum(1) * columns.sum(1)).to(torch.float32) / (height * width)
    return rows[:, :, None] & columns[:, None, :], share
