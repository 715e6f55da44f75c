"""Colours: brightness, contrast, saturation, hue and Gaussian blur of whole batches, in this order.

Every function takes float32 images [B, C, H, W] in [0, 255] and one number for each image, and returns images in
[0, 255]. It may overwrite its input: fresh memory costs more than the arithmetic. A change of zero leaves the
pixels unchanged. Products and sums are separate, since a fused one may round differently at the end of a tensor, and
then an image would depend on its position in the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from opsin.batches.draws import Draws
from opsin.batches.mixing import mean_colour
from opsin.batches.policy import Knobs
from opsin.batches.preprocess import luma

BLUR_REACH = 3
"""Standard deviations after which a Gaussian is cut off."""


def recolour(images: Tensor, knobs: Knobs, draws: Draws) -> Tensor:
    """Apply the enabled changes of this file: float32 [B, C, H, W]."""

    def factor(name: str) -> Tensor:
        return _per_image(1 + draws.signed(name) * knobs[name], images)

    if "brightness" in knobs:
        images = brighten(images, factor("brightness"))
    if "contrast" in knobs:
        images = change_contrast(images, factor("contrast"))
    if "saturation" in knobs:
        images = saturate(images, factor("saturation"))
    if "hue" in knobs:
        images = turn_hue(images, _per_image(draws.signed("hue") * knobs["hue"], images))
    if "blur" in knobs:
        images = blur(images, draws.uniform("blur") * knobs["blur"], float(knobs["blur"].max()))
    return images


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply all pixels. `factor`: float32 [B, 1, 1, 1], 0 or more."""
    return images.mul_(factor).clamp_(0, 255)


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch all pixels about the mean grey of their image. `factor`: float32 [B, 1, 1, 1], 0 or more."""
    grey = luma(images) if images.shape[1] == 3 else images
    mean = mean_colour(grey)[:, :, None, None]
    return images.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 255)


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch all pixels about their own grey. `factor`: float32 [B, 1, 1, 1], 0 or more. Images are RGB."""
    grey = luma(images)
    return images.mul_(factor).add_(grey.mul_(1 - factor)).clamp_(0, 255)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue; saturation and value (of HSV) are kept. `turns`: float32 [B, 1, 1, 1]. Images are RGB.

    Source: Smith, "Color gamut transform pairs", SIGGRAPH 1978; the way back without cases.
    """
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    divisor = chroma.clamp_min(1e-6)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    # Red, green and blue are full at 0, 2 and 4 sixths of a turn.
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    k = torch.remainder(offsets + sixths + 6 * turns, 6)
    return (value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)).clamp_(0, 255)


def blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Gaussian blur, reflected at the edges.

    Args:
        sigma: float64 [B], standard deviations in pixels; 0 leaves an image unchanged.
        largest: bound of `sigma`; the kernel's size comes from it, so that it does not depend on the batch.
    """
    H, W = images.shape[-2:]
    # A reflection cannot reach beyond the other edge.
    across = _blur_along(images, sigma, min(math.ceil(BLUR_REACH * largest), W - 1))
    down = _blur_along(across.transpose(2, 3), sigma, min(math.ceil(BLUR_REACH * largest), H - 1))
    return down.transpose(2, 3)


def _blur_along(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur along the last axis. A sum of shifted images: convolutions with a kernel per image are slow."""
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(torch.float32).to(images.device)
    padded = functional.pad(images, (radius, radius, 0, 0), mode="reflect")
    blurred = torch.zeros_like(images)
    for tap in range(2 * radius + 1):
        blurred += padded[..., tap : tap + images.shape[-1]] * weights[:, tap, None, None, None]
    return blurred


def _per_image(numbers: Tensor, images: Tensor) -> Tensor:
    """float64 [B] as float32 [B, 1, 1, 1] on the images' device."""
    return numbers.to(torch.float32).to(images.device)[:, None, None, None]
