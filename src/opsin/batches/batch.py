"""A batch: images with their targets, on one device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from opsin.data.targets import TargetFields


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """The second label of mixed images (MixUp, CutMix).

    `labels`: int64 [B], labels of the partners. `share`: float32 [B] in [0, 1], share of the first label.
    """

    labels: Tensor
    share: Tensor

    def to(self, device: torch.device | str) -> Mixed:
        """The same on another device."""
        return Mixed(labels=self.labels.to(device), share=self.share.to(device))


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a batch is of the batch of a step that several processes share.

    `counted`: samples of it that count: all, or none where it stands in for an empty share, since every process takes
    part in every step. `whole`: samples of the step over all processes.
    """

    counted: int
    whole: int


@dataclass(frozen=True, kw_only=True)
class Batch(TargetFields[Tensor]):
    """Images with their targets (`TargetFields`), B rows each.

    images: uint8 or float32 in [0, 255], [B, C, H, W], RGB or grey.
    index: int64 [B] on the CPU, sample indices in the split; random numbers are drawn from them.
    share: what it is of the step's batch, where several processes share one.
    partners: int64 [b] on the CPU, where images are to be mixed with images of other processes' shares: the first b
        rows are the batch, and row `partners[i]` is what row i is mixed with.
    """

    images: Tensor
    index: Tensor
    mixed: Mixed | None = None
    share: Share | None = None
    partners: Tensor | None = None

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device. `index` stays on the CPU, so that augmentation need not wait for a GPU."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            mixed=None if self.mixed is None else self.mixed.to(device),
            **self.mapped(lambda _, rows: rows.to(device, non_blocking=True)),
        )

    def split(self, parts: int) -> list[Batch]:
        """The batch split into at most `parts` batches of about equal size, in order."""
        size = -(-len(self) // parts)
        return [self.rows(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def rows(self, start: int, stop: int) -> Batch:
        """The samples from `start` to `stop` - 1, without a copy."""
        if (start, stop) == (0, len(self)):
            return self
        mixed = self.mixed
        return replace(
            self,
            images=self.images[start:stop],
            index=self.index[start:stop],
            mixed=None if mixed is None else Mixed(labels=mixed.labels[start:stop], share=mixed.share[start:stop]),
            **self.mapped(lambda _, rows: rows[start:stop]),
        )
