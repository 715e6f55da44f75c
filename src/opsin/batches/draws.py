"""The random numbers of one batch, a row for each sample.

Drawn on the CPU whatever the device: the numbers are few, and so a sample's picture is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from opsin.ops import random


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Random numbers as a function of (seed, epoch, sample). `index`: int64 [B] on the CPU, sample numbers."""

    seed: int
    epoch: int
    index: Tensor

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def uniform(self, stream: str) -> Tensor:
        """float64 [B] in [0, 1)."""
        return random.uniform(self.seed, self.epoch, self.index, stream)[:, 0].double()

    def signed(self, stream: str) -> Tensor:
        """float64 [B] in [-1, 1)."""
        return self.uniform(stream) * 2 - 1

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
        """int64 [B]: the places in the batch in random order. Depends on who is in the batch, not on their order."""
        return random.bits(self.seed, self.epoch, self.index, stream)[:, 0].argsort(stable=True)
