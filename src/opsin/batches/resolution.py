"""Training at several resolutions: whole batches made smaller or larger."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def resize_batch(images: Tensor, side: int) -> Tensor:
    """Images with both sides `side`, by bilinear interpolation that averages when it makes smaller (antialias).

    For progressive resolution in training. Boxes and masks are not moved by it: a step of training scales its boxes.
    Image files go through `ops.resize`.

    Args:
        images: uint8 or float32 [B, C, H, W]. uint8 is about four times as fast, and is rounded.
        side: pixels, 1 or more.

    Returns:
        [B, C, side, side] of the same dtype; `images` itself where it has that size already.
    """
    if images.shape[-2:] == (side, side):
        return images
    if images.dtype == torch.uint8 and images.device.type != "cpu":
        return resize_batch(images.to(torch.float32), side).round_().clamp_(0, 255).to(torch.uint8)
    return functional.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
