"""From samples to batches: order, gathering ahead, resuming inside an epoch.

The order of an epoch is a function of (seed, epoch), so `start_step` resumes in the middle of one with the same
batches as an uninterrupted epoch. One thread gathers the next batches while the network computes: samples are copied
out of memory or of a memory map, or read out of shards and decoded, and nothing depends on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from opsin.batches.batch import Batch
from opsin.batches.order import training_order
from opsin.batches.sharing import OwnRows, Ring, own_rows
from opsin.config.data import WINDOW
from opsin.data.shards.source import ShardPixels
from opsin.errors import ConfigError, DataError
from opsin.group import ALONE, Group
from opsin.ops.depth import as_batch

if TYPE_CHECKING:
    from opsin.data.samples import Pixels, Samples

NUM_AHEAD = 3
"""Number of batches gathered ahead."""


def steps_per_epoch(num_samples: int, batch_size: int, *, training: bool) -> int:
    """Batches in one epoch.

    In training, a last batch of one sample is merged into the batch before it, which then has `batch_size` + 1 samples:
    batch normalization cannot normalize one vector, and dropping the sample would be silent. Where there is no batch
    before it, or `batch_size` is 1, batches of one remain.

    >>> steps_per_epoch(101, 50, training=True), steps_per_epoch(101, 50, training=False)
    (2, 3)

    Raises:
        ConfigError: `batch_size` is less than 1.
        DataError: there are no samples.
    """
    if batch_size < 1:
        raise ConfigError("setting `batch_size` is out of range", got=batch_size, expected="1 or more")
    if num_samples < 1:
        raise DataError("there are no samples", got=num_samples, expected="at least 1 sample")
    steps = -(-num_samples // batch_size)
    lone = training and batch_size > 1 and steps > 1 and num_samples % batch_size == 1
    return steps - 1 if lone else steps


def batches(
    samples: Samples,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    training: bool,
    start_step: int = 0,
    prepare: Callable[[Batch], Batch] | None = None,
    group: Group = ALONE,
    ring: Ring | None = None,
    window: int = WINDOW,
) -> Generator[Batch]:
    """The batches of one epoch, uint8 on the CPU (16 bits: float32), gathered ahead by a thread.

    Args:
        samples: one split; its arrays may be read-only memory maps.
        batch_size: samples in a batch; the last may be smaller, or larger by one (`steps_per_epoch`).
        seed: seed of the order.
        epoch: number of the epoch; each has its own order.
        training: shuffle by (seed, epoch). Otherwise the order is that of the split.
        start_step: first batch to give; those before it are skipped without being gathered.
        prepare: applied to each batch as it is given out; by default batches are returned as gathered.
        group: processes that share each batch; this one is given its part.
        ring: who is mixed with whom, where images are mixed and a batch is shared.
        window: places over which a sample in shards may move when it is shuffled (`batches/order.py`).

    An error in the thread is raised here, at its batch. Closing or dropping the iterator ends the
    thread.

    Raises:
        ConfigError: `batch_size` or `start_step` is out of range.
        DataError: there are no samples.
    """
    num_samples = len(samples.images)
    num_steps = steps_per_epoch(num_samples, batch_size, training=training)
    if not 0 <= start_step <= num_steps:
        raise ConfigError("`start_step` is not inside the epoch", got=start_step, expected=f"0 to {num_steps}")
    order = torch.arange(num_samples)
    if training:
        order = training_order(samples.images, seed=seed, epoch=epoch, window=window)
    cuts = [step * batch_size for step in range(num_steps)] + [num_samples]
    told = samples.images.reading(order.numpy()) if isinstance(samples.images, ShardPixels) else None

    def made(step: int) -> Batch:
        if told is not None:
            told(cuts[step], cuts[step + 1])
        return _gathered(samples, own_rows(order[cuts[step] : cuts[step + 1]], group, ring))

    given = _made_ahead(made, range(start_step, num_steps))
    return _prepared(given, prepare) if prepare else given


def _prepared(given: Generator[Batch], prepare: Callable[[Batch], Batch]) -> Generator[Batch]:
    with closing(given):
        for batch in given:
            yield prepare(batch)


def _made_ahead(make: Callable[[int], Batch], steps: range) -> Generator[Batch]:
    """Results of `make` for each step, at most `NUM_AHEAD` batches ahead."""
    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="opsin-batches")
    try:
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) > NUM_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def gather(samples: Samples, index: Tensor) -> Batch:
    """The batch of the samples with the numbers `index`, int64 [B]. Everything in it is a copy."""
    return Batch(
        images=_rows(samples.images, index),
        index=index.clone(),
        **samples.mapped(lambda _, rows: _rows(rows, index)),
    )


def _gathered(samples: Samples, rows: OwnRows) -> Batch:
    batch = gather(samples, rows.index)
    return batch if rows.share is None else replace(batch, share=rows.share, partners=rows.partners)


def _rows(array: Pixels, index: Tensor) -> Tensor:
    """Copies of the rows `index` of an array or a memory map, or what is decoded of them now; see `as_batch`."""
    if isinstance(array, ShardPixels):
        return torch.from_numpy(array[index.numpy()])
    return as_batch(np.ascontiguousarray(np.take(array, index.numpy(), axis=0)))
