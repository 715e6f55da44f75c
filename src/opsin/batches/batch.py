"""What a network sees in one step: images with their targets, on one device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """The second label of images that were mixed of two (MixUp, CutMix).

    `labels`: int64 [B], labels of the partners. `share`: float32 [B] in [0, 1], share of the first label.
    """

    labels: Tensor
    share: Tensor

    def to(self, device: torch.device | str) -> Mixed:
        """The same on another device."""
        return Mixed(labels=self.labels.to(device), share=self.share.to(device))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images with their targets.

    images: uint8 or float32 in [0, 255], [B, C, H, W], RGB or grey.
    index: int64 [B] on the CPU, sample numbers in the split; randomness is drawn from them.
    labels: int64 [B]. boxes: float32 [B, 4], xyxy in pixels, x2 and y2 exclusive. masks: uint8 [B, H, W], 255 = void.
    """

    images: Tensor
    index: Tensor
    labels: Tensor | None = None
    boxes: Tensor | None = None
    masks: Tensor | None = None
    mixed: Mixed | None = None

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device. `index` stays on the CPU, so that augmentation need not wait for a GPU."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            labels=_moved(self.labels, device),
            boxes=_moved(self.boxes, device),
            masks=_moved(self.masks, device),
            mixed=None if self.mixed is None else self.mixed.to(device),
        )

    def split(self, parts: int) -> list[Batch]:
        """The batch cut into at most `parts` batches of about equal size, in order."""
        size = -(-len(self) // parts)
        return [self._rows(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def _rows(self, start: int, stop: int) -> Batch:
        if (start, stop) == (0, len(self)):
            return self
        rows = {name: getattr(self, name) for name in ("images", "index", "labels", "boxes", "masks")}
        kept = {name: None if value is None else value[start:stop] for name, value in rows.items()}
        mixed = self.mixed and Mixed(labels=self.mixed.labels[start:stop], share=self.mixed.share[start:stop])
        return replace(self, **kept, mixed=mixed)


def _moved(tensor: Tensor | None, device: torch.device | str) -> Tensor | None:
    return None if tensor is None else tensor.to(device, non_blocking=True)
