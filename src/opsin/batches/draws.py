"""The random numbers of one batch, one row per sample.

Drawn on the CPU for any device: the numbers are few, and a sample's image is then the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from opsin.ops import random

STREAMS = (
    *("shift/down", "shift/right", "rotate", "shear", "scale"),
    *("crop/area", "crop/stretch", "crop/x", "crop/y"),
    *("brightness", "contrast", "saturation", "hue", "blur", "cutout/y", "cutout/x"),
    *("turn/whether", "turn/which"),
    *("mix/which", "cutmix/y", "cutmix/x"),
)
"""Names of the uniform numbers of a sample. Drawn together: many small tensor operations cost more than the numbers."""
ROWS = {stream: row for row, stream in enumerate(STREAMS)}


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Random numbers as a function of (seed, epoch, sample). `index`: int64 [B] on the CPU, sample numbers."""

    seed: int
    epoch: int
    index: Tensor

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def first(self, count: int) -> Draws:
        """The numbers of the first `count` samples."""
        return self if count == len(self) else Draws(seed=self.seed, epoch=self.epoch, index=self.index[:count])

    def uniform(self, stream: str) -> Tensor:
        """float64 [B] in [0, 1). `stream` is one of `STREAMS`."""
        return self._numbers[ROWS[stream]]

    def signed(self, stream: str) -> Tensor:
        """float64 [B] in [-1, 1)."""
        return self.uniform(stream) * 2 - 1

    def phase(self, stream: str) -> Tensor:
        """float64 [B] in [0, 1), the same for a sample in every epoch."""
        return random.uniform(self.seed, 0, self.index, stream)[:, 0].double()

    def seeds(self, stream: str) -> list[int]:
        """A seed for a generator of torch for each sample, of 63 bits."""
        return [bits & (2**63 - 1) for bits in random.bits(self.seed, self.epoch, self.index, stream)[:, 0].tolist()]

    def field(self, stream: str, side: int) -> Tensor:
        """float32 [B, 2, side, side] in [-1, 1)."""
        return random.uniform(self.seed, self.epoch, self.index, stream, 2 * side**2).view(-1, 2, side, side) * 2 - 1

    def integers(self, stream: str, high: Tensor) -> Tensor:
        """int64 [B], each evenly from 0 to its own `high` - 1; `high` is int64 [B], 1 or more."""
        # A 24-bit fraction times a count below 2**24 is exact in float64, so the result is always below `high`.
        return (self.uniform(stream) * high).floor().long()

    def beta(self, stream: str, alpha: float) -> Tensor:
        """float32 [B] of the distribution Beta(alpha, alpha)."""
        return random.beta(self.seed, self.epoch, self.index, stream, alpha, alpha)

    def ranks(self, stream: str, count: int) -> Tensor:
        """int64 [B, count]: for each sample the numbers 0 to count - 1 in random order."""
        return random.bits(self.seed, self.epoch, self.index, stream, count).argsort(dim=1, stable=True)

    def ranks_in_batch(self, stream: str) -> Tensor:
        """int64 [B]: the positions in the batch in random order. Depends on the set of samples, not on their order."""
        return random.bits(self.seed, self.epoch, self.index, stream)[:, 0].argsort(stable=True)

    @cached_property
    def _numbers(self) -> Tensor:
        """float64 [number of streams, B]."""
        return random.uniform_of_streams(self.seed, self.epoch, self.index, STREAMS).double()
