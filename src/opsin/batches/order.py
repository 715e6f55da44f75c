"""The order of the samples of an epoch in training: a function of (seed, epoch), each sample once.

In memory all samples are shuffled. In shards that would read from everywhere at once, so two draws make the order:

    1. shards in random order             s7: 70 71 72 …   s2: 20 21 22 …   s5: 50 51 …
    2. each sample moves back by up to    71 70 73 20 72 22 21 …
       `window` places, and is passed

While a batch is made, only the shards of about `window` samples are read. The order knows of no process: those of a
group take their parts of the same batches, and a run that is resumed inside a shard goes on at the same sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opsin.data.shards.source import ShardPixels
from opsin.ops.random import permutation, uniform

if TYPE_CHECKING:
    from opsin.data.samples import Pixels


def training_order(images: Pixels, *, seed: int, epoch: int, window: int) -> Tensor:
    """The sample numbers of an epoch, int64 [N] on the CPU, in the order in which they are trained on.

    Args:
        images: of the split, uint8 [N, C, H, W].
        seed: seed of the order.
        epoch: number of the epoch.
        window: places by which a sample in shards may move back; in memory all are shuffled.
    """
    if isinstance(images, ShardPixels):
        return shard_order(torch.from_numpy(images.shards), seed=seed, epoch=epoch, window=window)
    return permutation(len(images), seed, epoch)


def shard_order(shards: Tensor, *, seed: int, epoch: int, window: int) -> Tensor:
    """The order of samples in shards, int64 [N].

    Args:
        shards: int32 [N], the shard of each sample.
        seed: seed of the order.
        epoch: number of the epoch.
        window: places by which a sample may move; 0 keeps the order within shards.
    """
    turn = torch.argsort(permutation(int(shards.max()) + 1, seed, epoch, "shards"))
    stream = torch.argsort(turn[shards.long()], stable=True)
    moved = uniform(seed, epoch, stream, "window")[:, 0].double() * window
    return stream[torch.argsort(torch.arange(len(stream)) + moved, stable=True)]
