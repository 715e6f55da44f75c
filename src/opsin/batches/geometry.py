"""Geometric augmentation: flip, crop, shear, scale, rotation, shift and elastic distortion of images, boxes and masks.

The changes of each image, in this order, make one affine map, so that an image is interpolated at most once. Flips and
whole-pixel shifts alone are copied exactly. The outside is filled by reflection, in the mask too; or it is black and
void (255) in the mask. A box becomes the envelope of its moved corners, clipped at the edge of the image; its area is
zero if nothing is left.

Coordinates of maps are (x, y) in pixels of the result from its centre. Images may hold more pixels than the result,
where they were packed larger than the network's input, so that a crop need not enlarge small ones: the maps are the
same, and the one interpolation reads from the larger image. Shapes: B images, C channels, H height, W width of the
result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from opsin.batches.batch import Batch
from opsin.batches.draws import Draws
from opsin.batches.policy import RESAMPLING, Knobs
from opsin.batches.resolution import resized
from opsin.batches.sampling import FillName, grid_of, grid_units, slide, warp
from opsin.data.targets import Motion, scale_boxes

COPIED = ("flip", "flip_vertical", "shift")
INTERPOLATED = (*RESAMPLING, "crop")
ELASTIC_KNOTS = 5
"""Knots of the field of an elastic distortion along each side; it is smooth between them."""
LARGEST_STRETCH = 4 / 3
"""Largest change of aspect ratio by a crop. Source: Szegedy et al., arXiv 1409.4842, section 6."""


def move(batch: Batch, knobs: Knobs, draws: Draws, fill: FillName, size: tuple[int, int] | None = None) -> Batch:
    """The batch with its images moved, and the targets with them; the batch itself if no knob of this file is on.

    `size`: height and width of the result, to which larger images are resampled; by default those of the images.
    """
    H, W = size or (batch.images.shape[2], batch.images.shape[3])
    if any(name in knobs for name in INTERPOLATED):
        forward = forward_maps(knobs, draws, H, W)
        return warp_batch(batch, forward, fill, displaced=_elastic(knobs, draws, H, W), size=(H, W))
    batch = resized(batch, H, W)
    if not any(name in knobs for name in COPIED):
        return batch
    slid = _Slid(knobs=knobs, draws=draws, fill=fill, size=(H, W))
    return replace(batch, images=slid.slide(batch.images, 0), **_moved(batch, slid))


def _moved(batch: Batch, motion: Motion) -> dict[str, Any]:
    """The targets of a batch after its images moved, by kind."""
    return batch.mapped(lambda kind, rows: kind.move(rows, motion))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Warped:
    """Images of `source` pixels after affine maps, resampled to `size` at `grid` float32 [B, H, W, 2]."""

    forward: Tensor
    grid: Tensor
    fill: FillName
    size: tuple[int, int]
    source: tuple[int, int]

    def pixels(self, planes: Tensor, void: int) -> Tensor:
        moved = warp(planes[:, None].to(torch.float32), self.grid, mode="nearest", fill=self.fill, value=void)
        return moved[:, 0].to(torch.uint8)

    def envelopes(self, boxes: Tensor) -> Tensor:
        return move_boxes(scale_boxes(boxes, self.source, self.size), self.forward, *self.size)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Slid:
    """Images of `size` after flips and shifts by whole pixels, exactly."""

    knobs: Knobs
    draws: Draws
    fill: FillName
    size: tuple[int, int]

    def slide(self, pixels: Tensor, value: int) -> Tensor:
        """Planes [B, C, H, W]; `value` outside the source."""
        flip, flip_vertical = _flips(self.knobs, self.draws)
        down, right = _shifts(self.knobs, self.draws)
        return slide(
            pixels, flip=flip, flip_vertical=flip_vertical, down=down, right=right, fill=self.fill, value=value
        )

    def pixels(self, planes: Tensor, void: int) -> Tensor:
        return self.slide(planes[:, None], void)[:, 0]

    def envelopes(self, boxes: Tensor) -> Tensor:
        return move_boxes(boxes, forward_maps(self.knobs, self.draws, *self.size), *self.size)


def forward_maps(knobs: Knobs, draws: Draws, height: int, width: int) -> Tensor:
    """The map of each image from its source to its result: float64 [B, 2, 3]."""
    flip, flip_vertical = _flips(knobs, draws)
    down, right = _shifts(knobs, draws)
    share, centre = _crops(knobs, draws, height, width)
    linear = _rotations(knobs, draws)
    mirror = 1 - 2 * torch.stack([flip, flip_vertical], dim=1).double()
    # Mirror, then cut out the crop and stretch it to the whole image; then shear, scale, rotate; then shift.
    offset = (linear * (-centre / share)[:, None, :]).sum(dim=2) + torch.stack([right, down], dim=1)
    return torch.cat([linear * (mirror / share)[:, None, :], offset[:, :, None]], dim=2)


def inverted(maps: Tensor) -> Tensor:
    """The inverse of each affine map: float64 [B, 2, 3], by Cramer's rule."""
    a, b, x, c, d, y = maps.flatten(1).unbind(dim=1)
    determinant = a * d - b * c
    inverse = torch.stack([d, -b, b * y - d * x, -c, a, c * x - a * y], dim=1) / determinant[:, None]
    return inverse.view(-1, 2, 3)


def move_boxes(boxes: Tensor, forward: Tensor, height: int, width: int) -> Tensor:
    """Boxes after the maps: the envelope of the four corners, clipped at the edge of the image.

    Args:
        boxes: float32 [B, 4], xyxy in pixels, x2 and y2 exclusive.
        forward: float64 [B, 2, 3].

    Returns:
        float32 [B, 4] within [0, width] and [0, height]; of zero area if the box has left the image.
    """
    maps = forward.to(torch.float32).to(boxes.device)
    half = torch.tensor([width / 2, height / 2], device=boxes.device)
    x = boxes[:, [0, 2, 0, 2]] - half[0]
    y = boxes[:, [1, 1, 3, 3]] - half[1]
    moved_x = maps[:, 0, :1] * x + maps[:, 0, 1:2] * y + maps[:, 0, 2:] + half[0]
    moved_y = maps[:, 1, :1] * x + maps[:, 1, 1:2] * y + maps[:, 1, 2:] + half[1]
    moved_x, moved_y = moved_x.clamp(0, width), moved_y.clamp(0, height)
    return torch.stack([moved_x.amin(1), moved_y.amin(1), moved_x.amax(1), moved_y.amax(1)], dim=1)


def warp_batch(
    batch: Batch,
    forward: Tensor,
    fill: FillName,
    *,
    displaced: Tensor | None = None,
    size: tuple[int, int] | None = None,
) -> Batch:
    """Images (bilinear, float32) after the maps, float64 [B, 2, 3], and the targets with them.

    Args:
        batch: images [B, C, h, w].
        displaced: float32 [B, H, W, 2], further displacements of each pixel, in pixels, x first.
        size: height and width of the result; by default those of the images.
    """
    h, w = batch.images.shape[-2:]
    source, (H, W) = (h, w), size or (h, w)
    grid = grid_of(inverted(forward), H, W, source)
    if displaced is not None:
        grid.add_(displaced * torch.tensor(grid_units((H, W), source)))
    grid = grid.to(batch.images.device)
    images = warp(batch.images.to(torch.float32), grid, mode="bilinear", fill=fill, value=0)
    warped = _Warped(forward=forward, grid=grid, fill=fill, size=(H, W), source=source)
    return replace(batch, images=images, **_moved(batch, warped))


def _flips(knobs: Knobs, draws: Draws) -> tuple[Tensor, Tensor]:
    """Images mirrored left-right and top-bottom in this epoch: bool [B] each.

    Each in its share of the epochs, evenly spread. With 0.5 an image is mirrored in every second epoch, so that two
    epochs show both its sides rather than the same one half of the time. Source: Jordan, arXiv 2404.00498, section 3.6.

    Top and bottom are mirrored in their share of the epochs with left and right mirrored, and of those without: both
    counted in step would show two of the four pictures of an image, and never the other two.
    """
    never = torch.zeros(len(draws), dtype=torch.bool)
    epochs = torch.full((len(draws),), draws.epoch, dtype=torch.float64)
    across, alike = never, epochs
    if "flip" in knobs:
        phase, share = draws.phase("flip"), knobs["flip"]
        across = _has_turn(phase, epochs, share)
        mirrored = (phase + epochs * share).floor()
        alike = torch.where(across, mirrored, epochs - mirrored)
    if "flip_vertical" not in knobs:
        return across, never
    return across, _has_turn(draws.phase("flip_vertical"), alike, knobs["flip_vertical"])


def _has_turn(phase: Tensor, count: Tensor, share: Tensor) -> Tensor:
    """Whether the whole number below `phase + count * share` rises with the next count: bool [B]. All float64 [B]."""
    return (phase + count * share) % 1 + share >= 1


def _shifts(knobs: Knobs, draws: Draws) -> tuple[Tensor, Tensor]:
    """Shifts down and right in pixels: int64 [B] each."""
    if "shift" not in knobs:
        still = torch.zeros(len(draws), dtype=torch.int64)
        return still, still
    limit = knobs["shift"].long()
    places = 2 * limit + 1
    return draws.integers("shift/down", places) - limit, draws.integers("shift/right", places) - limit


def _rotations(knobs: Knobs, draws: Draws) -> Tensor:
    """Shear along x, then scale, then rotation about the centre: float64 [B, 2, 2]."""
    none = torch.zeros(len(draws), dtype=torch.float64)
    angle = torch.deg2rad(draws.signed("rotate") * knobs.get("rotate", none))
    slope = torch.tan(torch.deg2rad(draws.signed("shear") * knobs.get("shear", none)))
    factor = 1 + draws.signed("scale") * knobs.get("scale", none)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([cos, slope * cos - sin, sin, slope * sin + cos], dim=1).view(-1, 2, 2) * factor[:, None, None]


def _elastic(knobs: Knobs, draws: Draws, height: int, width: int) -> Tensor | None:
    """A smooth random displacement of each pixel: float32 [B, H, W, 2] in pixels, x first.

    Source: Simard et al., "Best practices for convolutional neural networks", ICDAR 2003, section 2; their field is
    blurred noise, ours is cubic between knots.
    """
    if "elastic" not in knobs:
        return None
    noise = draws.field("elastic", ELASTIC_KNOTS) * knobs["elastic"].to(torch.float32)[:, None, None, None]
    field = functional.interpolate(noise, (height, width), mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def _crops(knobs: Knobs, draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Shares of the sides that are kept, and the centres of the crops: float64 [B, 2] each, x first.

    The area is uniform; the change of aspect ratio is log-uniform among those with which the crop fits the image, so
    that no crop is smaller than requested.
    """
    if "crop" not in knobs:
        return torch.ones(len(draws), 2, dtype=torch.float64), torch.zeros(len(draws), 2, dtype=torch.float64)
    area = 1 - draws.uniform("crop/area") * knobs["crop"]
    widest = torch.clamp(-torch.log(area), max=torch.log(torch.tensor(LARGEST_STRETCH)).item())
    stretch = torch.exp(draws.signed("crop/stretch") * widest)
    share = torch.stack([torch.sqrt(area * stretch), torch.sqrt(area / stretch)], dim=1).clamp(max=1)
    where = torch.stack([draws.signed("crop/x"), draws.signed("crop/y")], dim=1)
    return share, where * (1 - share) / 2 * torch.tensor([width, height])
