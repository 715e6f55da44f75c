"""Fitting images, boxes and masks of any size into one size, and the way back. Pure maths.

A fit is a scale and an offset along each axis: `x' = x * scale_x + offset_x`, with pixel edges (not centres) as
coordinates. Images are resampled with antialiased bilinear weights, masks with the nearest pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from opsin.arrays import Array
from opsin.ops.depth import at_depth
from opsin.types import VOID, SizePolicy

Bytes = NDArray[np.uint8]
Boxes = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an image of one size lies in the frame of a policy.

    Attributes:
        height, width: size to which the image is resampled.
        top, left: its first row and column in the frame; negative where it is cut.
        scale_y, scale_x: resampled pixels per original pixel.
    """

    height: int
    width: int
    top: int
    left: int
    scale_y: float
    scale_x: float


def place(height: int, width: int, policy: SizePolicy) -> Placement:
    """Where an image of `height` x `width` pixels lies in the frame of `policy`.

    >>> place(100, 200, SizePolicy(height=50, width=50, fit="pad"))
    Placement(height=25, width=50, top=12, left=0, scale_y=0.25, scale_x=0.25)
    >>> place(512, 512, SizePolicy(height=224, width=224, fit="crop", crop_share=0.875))
    Placement(height=256, width=256, top=-16, left=-16, scale_y=0.5, scale_x=0.5)
    """
    ratios = (policy.height / height, policy.width / width)
    if policy.fit == "squash":
        new_height, new_width = policy.height, policy.width
    else:
        ratio = max(ratios) / policy.crop_share if policy.fit == "crop" else min(ratios)
        new_height, new_width = max(1, round(height * ratio)), max(1, round(width * ratio))
    return Placement(
        height=new_height,
        width=new_width,
        top=(policy.height - new_height) // 2,
        left=(policy.width - new_width) // 2,
        scale_y=new_height / height,
        scale_x=new_width / width,
    )


def resampled_size(policy: SizePolicy) -> Callable[[int, int], tuple[int, int]]:
    """Height and width to which an image is resampled for the frame of `policy`, from its own height and width.

    >>> resampled_size(SizePolicy(height=50, width=50, fit="pad"))(100, 200)
    (25, 50)
    """

    def sides(height: int, width: int) -> tuple[int, int]:
        placement = place(height, width, policy)
        return placement.height, placement.width

    return sides


def fit_image(pixels: Bytes, policy: SizePolicy, whole: tuple[int, int] | None = None) -> Bytes:
    """An image in the frame of `policy`.

    Args:
        pixels: uint8 or uint16 `[C, H, W]`.
        whole: height and width of the image, where `pixels` are a smaller version of it.

    Returns:
        `[C, policy.height, policy.width]`, uint8 or, of a policy of 16 bits, uint16; black where `pad` leaves room. The
        input itself when it fits already.
    """
    pixels = at_depth(pixels, policy.bits)
    height, width = whole or pixels.shape[1:]
    placement = place(height, width, policy)
    resampled = pixels
    if (placement.height, placement.width) != pixels.shape[1:]:
        resampled = _resample(pixels, placement.height, placement.width, (height, width))
    return _framed(resampled, placement, policy, fill=0)


def _resample(pixels: Bytes, height: int, width: int, whole: tuple[int, int]) -> Bytes:
    """`pixels` `[C, H, W]` as `[C, height, width]`, antialiased bilinear.

    `whole`: height and width of the image of which `pixels` are an exact or a smaller version. A side that was divided
    is rounded up, so the last row or column of a smaller version lies partly outside of the image; that part is cut.
    """
    tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))[None]
    # PyTorch has no kernel of 16 bits, and its kernel for bytes takes tensors with a side of 1 for channels-last.
    floating = pixels.dtype == np.uint16 or 1 in (*pixels.shape[1:], height, width)
    given = tensor.float() if floating else tensor
    reduction = round(whole[0] / pixels.shape[1])
    scales = [reduction * new / old for new, old in zip((height, width), whole, strict=True)]
    partly = any(reduction * have != old for have, old in zip(pixels.shape[1:], whole, strict=True))
    goal: dict[str, Any] = {"scale_factor": scales} if partly else {"size": (height, width)}
    resampled = interpolate(given, **goal, mode="bilinear", antialias=True, align_corners=False)[0]
    if not floating:
        return resampled.numpy()
    most = np.iinfo(pixels.dtype).max
    return resampled.round().clamp(0, most).numpy().astype(pixels.dtype)


def fit_boxes(boxes: Boxes, height: int, width: int, policy: SizePolicy) -> Boxes:
    """Boxes of an image of `height` x `width` pixels, in the frame of `policy`.

    Args:
        boxes: float32 `[..., 4]` xyxy in pixels of the original image.

    Returns:
        float32 `[..., 4]` xyxy in pixels of the frame, not clipped to it: with `crop` a box can lie partly outside.
    """
    scale, offset = _scale_and_offset(place(height, width, policy))
    return (boxes * scale + offset).astype(np.float32)


def unfit_boxes(boxes: Boxes, height: int, width: int, policy: SizePolicy) -> Boxes:
    """The inverse of `fit_boxes`: from the frame to pixels of the original image of `height` x `width`."""
    scale, offset = _scale_and_offset(place(height, width, policy))
    return ((boxes - offset) / scale).astype(np.float32)


def fit_mask(mask: Bytes, policy: SizePolicy) -> Bytes:
    """A mask in the frame of `policy`, by nearest pixel.

    Args:
        mask: uint8 `[H, W]` of class indices.

    Returns:
        uint8 `[policy.height, policy.width]`; VOID where `pad` leaves room.
    """
    placement = place(mask.shape[0], mask.shape[1], policy)
    rows = _nearest(mask.shape[0], placement.height)
    columns = _nearest(mask.shape[1], placement.width)
    fitted: Bytes = _framed(mask[rows[:, None], columns][None], placement, policy, fill=VOID)[0]
    return fitted


def unfit_mask(mask: Bytes, height: int, width: int, policy: SizePolicy) -> Bytes:
    """The inverse of `fit_mask`: uint8 `[height, width]`; VOID where `crop` had cut the original."""
    placement = place(height, width, policy)
    rows = _nearest(placement.height, height) + placement.top
    columns = _nearest(placement.width, width) + placement.left
    seen = (rows >= 0) & (rows < policy.height), (columns >= 0) & (columns < policy.width)
    original = np.full((height, width), VOID, np.uint8)
    original[np.ix_(*seen)] = mask[np.ix_(rows[seen[0]], columns[seen[1]])]
    return original


def _scale_and_offset(placement: Placement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scale = np.array([placement.scale_x, placement.scale_y] * 2)
    return scale, np.array([placement.left, placement.top] * 2, np.float64)


def _nearest(size: int, new_size: int) -> NDArray[np.int64]:
    """For each new pixel, the old pixel that holds its centre."""
    return np.minimum(((np.arange(new_size) + 0.5) * (size / new_size)).astype(np.int64), size - 1)


def _framed(resampled: Array, placement: Placement, policy: SizePolicy, *, fill: int) -> Bytes:
    """`resampled` `[C, h, w]`, cut or padded to the frame."""
    if resampled.shape[1:] == (policy.height, policy.width):
        return resampled
    top, left = max(-placement.top, 0), max(-placement.left, 0)
    cut = resampled[:, top : top + policy.height, left : left + policy.width]
    frame = np.full((len(resampled), policy.height, policy.width), fill, resampled.dtype)
    top, left = max(placement.top, 0), max(placement.left, 0)
    frame[:, top : top + cut.shape[1], left : left + cut.shape[2]] = cut
    return frame
