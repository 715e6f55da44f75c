"""Image changes of the robustness card: their strengths, and how targets follow them.

Targets follow their images (`data.targets`). What enters from outside is reflected, in the mask too; where a target
speaks of one object it is black, since a reflection would show that twice. Turns by 90, 180 and 270 degrees and shifts
copy pixels and resample nothing. What is drawn at random is a function of (seed, strength, sample).

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from opsin.batches import colour
from opsin.batches.batch import Batch
from opsin.batches.draws import Draws
from opsin.batches.geometry import move_boxes, warp_batch
from opsin.batches.mixing import cutout
from opsin.batches.sampling import FillName, slide
from opsin.batches.turns import turn
from opsin.data.targets import KINDS
from opsin.io.images import decode_image, encode_jpeg
from opsin.ops import random

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Where a shift may go: (down, right)."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One kind of change.

    `unit`: unit of the strengths, for display. `unchanged`: the strength that changes nothing. `strengths`: at which it
    is measured, in the order of the figure. `apply(batch, strength, draws)`: the changed batch, images float32 or uint8
    in [0, 255].
    """

    name: str
    unit: str
    unchanged: float
    strengths: tuple[float, ...]
    apply: Callable[[Batch, float, Draws], Batch]

    def __call__(self, batch: Batch, strength: float, *, seed: int) -> Batch:
        """The changed batch, images uint8; of images float32 in [0, 255] float32, not rounded, but after `jpeg`.

        Args:
            batch: images uint8 or float32 [B, C, H, W]. It is not changed.
            strength: in `unit`.
            seed: seed of random draws.
        """
        # the strength's index takes the place of the epoch: each strength has its own draws
        draws = Draws(seed=seed, epoch=self.strengths.index(strength), index=batch.index)
        changed = self.apply(batch, strength, draws)
        images = _bytes(changed.images) if batch.images.dtype == torch.uint8 else changed.images.clamp(0, 255)
        return replace(changed, images=images)


def rotate(batch: Batch, degrees: float, draws: Draws) -> Batch:
    """Rotated clockwise about the centre; without resampling by 180 degrees, and by 90 and 270 for square images."""
    height, width = batch.images.shape[-2:]
    quarters, rest = divmod(degrees % 360, 90)
    if rest == 0 and height == width:
        return turn(batch, torch.full((len(batch),), int(quarters)))
    angle = math.radians(degrees)
    return _mapped(batch, [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def scale(batch: Batch, factor: float, draws: Draws) -> Batch:
    """Made larger (factor above 1) or smaller about the centre."""
    return _mapped(batch, [[factor, 0.0], [0.0, factor]])


def shift(batch: Batch, percent: float, draws: Draws) -> Batch:
    """Moved by a share of the shorter side, whole pixels, in one of eight directions that is drawn for each image."""
    height, width = batch.images.shape[-2:]
    pixels = max(1, round(min(height, width) * percent / 100))
    count = torch.full((len(batch),), len(DIRECTIONS))
    steps = torch.tensor(DIRECTIONS)[draws.integers("shift/right", count)] * pixels
    motion = _Shifted(steps=steps, fill=_fill(batch), size=(height, width))
    targets = batch.mapped(lambda kind, rows: kind.move(rows, motion))
    return replace(batch, images=motion.planes(batch.images, 0), **targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shifted:
    """Images of `size` after shifts by whole pixels, `steps` int64 [B, 2]: down, right."""

    steps: Tensor
    fill: FillName
    size: tuple[int, int]

    def planes(self, pixels: Tensor, value: int) -> Tensor:
        """Pixels [B, C, H, W]; `value` where nothing comes in."""
        down, right = self.steps.unbind(1)
        still = torch.zeros(len(down), dtype=torch.bool)
        return slide(pixels, flip=still, flip_vertical=still, down=down, right=right, fill=self.fill, value=value)

    def pixels(self, planes: Tensor, void: int) -> Tensor:
        return self.planes(planes[:, None], void)[:, 0]

    def envelopes(self, boxes: Tensor) -> Tensor:
        maps = torch.eye(2, 3, dtype=torch.float64).repeat(len(self.steps), 1, 1)
        maps[:, :, 2] = self.steps.flip(1).double()
        return move_boxes(boxes, maps, *self.size)


def blur(batch: Batch, percent: float, draws: Draws) -> Batch:
    """Blurred by a Gaussian whose standard deviation is a share of the shorter side."""
    sigma = min(batch.images.shape[-2:]) * percent / 100
    images = colour.blur(_floats(batch), torch.full((len(batch),), sigma, dtype=torch.float64), sigma)
    return replace(batch, images=images)


def noise(batch: Batch, deviation: float, draws: Draws) -> Batch:
    """Gaussian noise on each pixel and channel; `deviation` in grey values of 255."""
    images = _floats(batch)
    drawn = random.normal(draws.seed, draws.epoch, draws.index, "noise", images[0].numel())
    return replace(batch, images=images + deviation * drawn.view_as(images))


def compress(batch: Batch, quality: float, draws: Draws) -> Batch:
    """Written as JPEG of that quality, without colour subsampling, and read again."""
    channels = batch.images.shape[1]
    files = [encode_jpeg(pixels, quality=int(quality)) for pixels in _bytes(batch.images).numpy()]
    decoded = [decode_image(file, "a JPEG of this image").pixels[:channels] for file in files]
    return replace(batch, images=torch.from_numpy(np.stack(decoded)))


def brighten(batch: Batch, factor: float, draws: Draws) -> Batch:
    """All pixels multiplied, cut off at 255."""
    return replace(batch, images=colour.brighten(_floats(batch), _each(batch, factor)))


def change_contrast(batch: Batch, factor: float, draws: Draws) -> Batch:
    """Pixels stretched about the mean grey of their image, cut off at 0 and 255."""
    return replace(batch, images=colour.change_contrast(_floats(batch), _each(batch, factor)))


def occlude(batch: Batch, percent: float, draws: Draws) -> Batch:
    """A square of the image's mean colour, its side a share of the shorter side, at a place drawn for each image."""
    height, width = batch.images.shape[-2:]
    side = max(1, round(min(height, width) * percent / 100))
    sides = torch.full((len(batch),), side)
    images = cutout(_floats(batch), sides, draws)
    top, left = draws.integers("cutout/y", height - sides + 1), draws.integers("cutout/x", width - sides + 1)
    rows, columns = torch.arange(height) - top[:, None], torch.arange(width) - left[:, None]
    hidden = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return replace(batch, images=images, **batch.mapped(lambda kind, rows: kind.hide(rows, hidden)))


CHANGES = (
    Change(
        name="rotation",
        unit="degrees, clockwise",
        unchanged=0,
        strengths=tuple(float(angle) for angle in range(30, 360, 30)),
        apply=rotate,
    ),
    Change(name="shift", unit="% of the side", unchanged=0, strengths=(3, 6, 12, 18, 25), apply=shift),
    Change(name="scale", unit="factor", unchanged=1, strengths=(0.5, 0.7, 0.85, 1.2, 1.5), apply=scale),
    Change(name="blur", unit="sd, % of the side", unchanged=0, strengths=(1, 2, 3, 5, 8), apply=blur),
    Change(name="noise", unit="sd, grey values", unchanged=0, strengths=(5, 10, 20, 35, 50), apply=noise),
    Change(name="jpeg", unit="quality", unchanged=100, strengths=(80, 50, 30, 15, 7), apply=compress),
    Change(name="brightness", unit="factor", unchanged=1, strengths=(0.25, 0.5, 0.75, 1.5, 2), apply=brighten),
    Change(name="contrast", unit="factor", unchanged=1, strengths=(0.15, 0.3, 0.6, 1.5, 2.5), apply=change_contrast),
    Change(name="occlusion", unit="side, %", unchanged=0, strengths=(10, 20, 30, 40, 50), apply=occlude),
)


def _mapped(batch: Batch, linear: list[list[float]]) -> Batch:
    """The batch after a linear map about the centre of each image."""
    maps = torch.zeros(len(batch), 2, 3, dtype=torch.float64)
    maps[:, :, :2] = torch.tensor(linear, dtype=torch.float64)
    return warp_batch(batch, maps, _fill(batch))


def _fill(batch: Batch) -> FillName:
    return "black" if any(KINDS[kind].one_object for kind in batch.targets) else "reflect"


def _floats(batch: Batch) -> Tensor:
    """Images float32 that may be overwritten."""
    return batch.images.to(torch.float32, copy=True)


def _each(batch: Batch, number: float) -> Tensor:
    return torch.full((len(batch), 1, 1, 1), number)


def _bytes(images: Tensor) -> Tensor:
    return images if images.dtype == torch.uint8 else images.round().clamp(0, 255).to(torch.uint8)
