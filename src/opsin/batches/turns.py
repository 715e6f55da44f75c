"""Quarter turns of images and their targets: pixels change places, nothing is resampled.

Shapes: B images, C channels, S side of a square image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from opsin.batches.batch import Batch
from opsin.batches.draws import Draws
from opsin.batches.policy import Knobs
from opsin.errors import ConfigError


def turn_some(batch: Batch, knobs: Knobs, draws: Draws) -> Batch:
    """The batch with a share of its images turned by 90, 180 or 270 degrees, each as often; itself if that is off."""
    if "quarter_turns" not in knobs:
        return batch
    turned = draws.uniform("turn/whether") < knobs["quarter_turns"]
    quarters = torch.where(turned, 1 + draws.integers("turn/which", torch.full_like(turned, 3, dtype=torch.int64)), 0)
    return turn(batch, quarters)


def turn(batch: Batch, quarters: Tensor) -> Batch:
    """The batch with each image turned clockwise by its number of quarters.

    Args:
        batch: square images [B, C, S, S]. It is not changed.
        quarters: int64 [B] on the CPU, 0 to 3.

    Returns:
        Images and masks of the same dtypes, every pixel a copy; boxes float32 [B, 4].

    Raises:
        ConfigError: the images are not square.
    """
    height, width = batch.images.shape[-2:]
    if height != width:
        raise ConfigError(
            "quarter turns need square images",
            got=f"{height} x {width} px",
            do="set quarter_turns to 0, or a square --input-size",
        )
    motion = _Turned(quarters=quarters, side=width)
    targets = batch.mapped(lambda kind, rows: kind.move(rows, motion))
    return replace(batch, images=_turned(batch.images, quarters), **targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Turned:
    """Square images of `side` pixels, each turned clockwise by its number of `quarters` int64 [B]."""

    quarters: Tensor
    side: int

    def pixels(self, planes: Tensor, void: int) -> Tensor:
        """Planes uint8 [B, S, S]; nothing comes in from outside."""
        return _turned(planes, self.quarters)

    def envelopes(self, boxes: Tensor) -> Tensor:
        """Boxes float32 [B, 4], moved exactly."""
        return _turned_boxes(boxes, self.quarters, self.side)


def _turned(pixels: Tensor, quarters: Tensor) -> Tensor:
    """Pixels [B, ..., S, S], each image turned clockwise; a copy."""
    turned = pixels.clone()
    for count in (1, 2, 3):
        chosen = (quarters == count).nonzero()[:, 0].to(pixels.device)
        if len(chosen):
            turned.index_copy_(0, chosen, pixels.index_select(0, chosen).rot90(-count, (-2, -1)))
    return turned


def _turned_boxes(boxes: Tensor, quarters: Tensor, side: int) -> Tensor:
    """Boxes float32 [B, 4] after the turns: (x, y) goes to (side - y, x) with each quarter."""
    for count in (1, 2, 3):
        x1, y1, x2, y2 = boxes.unbind(1)
        quarter = torch.stack([side - y2, x1, side - y1, x2], dim=1)
        boxes = torch.where((quarters >= count).to(boxes.device)[:, None], quarter, boxes)
    return boxes
