"""Training at several resolutions: resizing whole batches."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from opsin.batches.batch import Batch


def resize_batch(batch: Batch, height: int) -> Batch:
    """The batch with images `height` pixels high and their width in proportion; targets are resized too.

    Image files go through `ops.resize`.
    """
    H, W = batch.images.shape[-2:]
    return resized(batch, height, W if height == H else max(1, round(W * height / H)))


def resized(batch: Batch, height: int, width: int) -> Batch:
    """The batch with images of `height` x `width` pixels and their targets; itself if they have that size."""
    H, W = batch.images.shape[-2:]
    if (height, width) == (H, W):
        return batch
    targets = batch.mapped(lambda kind, rows: kind.resize(rows, (H, W), (height, width)))
    return replace(batch, images=resize_images(batch.images, height, width), **targets)


def resize_images(images: Tensor, height: int, width: int) -> Tensor:
    """Resize images by bilinear interpolation, with antialiasing when downscaling.

    Args:
        images: uint8 or float32 [B, C, H, W]. uint8 is about four times as fast, and is rounded.
        height: pixels, 1 or more.
        width: likewise.

    Returns:
        [B, C, height, width] of the same dtype; `images` itself if it has that size.
    """
    if images.shape[-2:] == (height, width):
        return images
    if images.dtype == torch.uint8 and images.device.type != "cpu":
        return resize_images(images.to(torch.float32), height, width).round_().clamp_(0, 255).to(torch.uint8)
    return functional.interpolate(images, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
