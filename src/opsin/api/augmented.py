"""What augmentation makes of a data set's images, as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.loader import gather
from opsin.config import resolve
from opsin.data.pack import pack
from opsin.data.samples import Bytes, Dataset
from opsin.data.show import cell_side, examples, sheet
from opsin.ops.mask_pictures import overlaid
from opsin.training.setup.defaults import defaults_for
from opsin.types import SizePolicy

GRID = 8
"""Rows and columns of the grid of augmented images."""


def augmented_sheet(dataset: Dataset, layer: Mapping[str, Any], seed: int) -> Bytes:
    """A grid uint8 `[3, H, W]`: a training sample a row, first as it is, then as the network sees it."""
    config = resolve(defaults_for(dataset), layer)
    train = dataset.splits["train"]
    numbers = np.concatenate([i for _, i in examples(train, per_class=GRID, max_classes=GRID)])[::GRID][:GRID]
    if train.labels is None:
        numbers = np.arange(min(GRID, len(train)))
    few = Dataset(**{**vars(dataset), "splits": {"train": train.take(numbers)}})
    side = config.data.input_size
    width = config.data.input_width or side
    policy = SizePolicy(height=side, width=width, fit=config.data.fit) if side and width else None
    samples = pack(few, policy, cache=None)["train"]
    batch = gather(samples, torch.arange(len(samples)))
    seen = [
        augment(batch, config.augment, seed=seed, epoch=epoch, num_classes=len(dataset.classes))
        for epoch in range(GRID - 1)
    ]
    background = 0 if dataset.classes[0] == "background" else None
    columns = [_drawn(views, background) for views in (batch, *seen)]
    rows = [[column[i] for column in columns] for i in range(len(samples))]
    return sheet(rows, cell=cell_side((samples.images.shape[2], samples.images.shape[3])))


def _drawn(views: Batch, background: int | None) -> list[Bytes]:
    """The images of a batch, uint8 `[C, H, W]` each, under the colours of their masks where there are masks."""
    pixels = views.images.float().round().clamp(0, 255).to(torch.uint8).numpy()
    if views.masks is None:
        return list(pixels)
    return [overlaid(p, m, background=background) for p, m in zip(pixels, views.masks.numpy(), strict=True)]
