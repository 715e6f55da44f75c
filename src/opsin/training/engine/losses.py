"""The losses of a training: left on the device, read every few steps, and each checked before anything is kept.

Reading a number makes the processor wait for the device. On a CPU there is nothing to wait for, so every step is read,
and one that diverges leaves the weights as they were. On a GPU steps are read together; the first that diverged is
named all the same, and neither a checkpoint nor a best state is made of weights that came after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opsin.batches.batch import Share
from opsin.group import ALONE, Group
from opsin.training.engine.guards import check_finite

STEPS_BETWEEN_READS = 16
"""Steps between reads on devices that compute asynchronously, and where several processes share a step."""


@dataclass(frozen=True, kw_only=True)
class StepLosses:
    """The losses of a step, on its device.

    `means`: over the batch, scalars; "loss" is among them. `norm`: of all gradients together, a scalar. `samples`:
    int64 [B], indices of the samples in the split. `share`: their part of the batch that processes share.
    """

    step: int
    means: Mapping[str, Tensor]
    norm: Tensor
    samples: Tensor
    share: Share | None = None

    @property
    def count(self) -> int:
        """Samples of the step over all processes."""
        return len(self.samples) if self.share is None else self.share.whole


@dataclass(frozen=True, kw_only=True)
class ReadLosses:
    """Means over the `count` images of a step, of all processes, as plain numbers."""

    count: int
    means: Mapping[str, float]


class LossReader:
    """Collects the losses of each step and reads them later.

    Args:
        device: where the losses are.
        sample_ids: display name of each training sample, for errors.
        group: processes that share each step: every one of them reads the means over the whole step, so that all find
            the same step at fault. An error names the samples of the process that prints it.
    """

    def __init__(self, device: torch.device, sample_ids: Sequence[str] = (), group: Group = ALONE) -> None:
        self.sample_ids, self.group = sample_ids, group
        self.every = steps_between_reads(device) if group.alone else STEPS_BETWEEN_READS
        # keyed by step: a step repeated after an out-of-memory error counts once
        self._waiting: dict[int, StepLosses] = {}
        self._read: dict[int, ReadLosses] = {}

    def add(self, losses: StepLosses) -> None:
        """Add a step's losses; read all pending ones when it is time.

        Raises:
            DivergedError: a step among those that were read has a loss or a gradient that is not finite.
        """
        self._waiting[losses.step] = losses
        if len(self._waiting) >= self.every:
            self.check()

    def check(self) -> None:
        """Read all pending losses.

        Raises:
            DivergedError: naming the first step whose loss or gradient is not finite.
        """
        waiting, self._waiting = self._waiting, {}
        numbers = _over_group(list(waiting.values()), self.group) if waiting else []
        for losses, (*means, norm) in zip(waiting.values(), numbers, strict=True):
            named = dict(zip(losses.means, means, strict=True))
            check_finite(
                named["loss"],
                norm,
                step=losses.step,
                samples=losses.samples,
                sample_ids=self.sample_ids,
                weights_kept=self.every == 1,
            )
            self._read[losses.step] = ReadLosses(count=losses.count, means=named)

    def take(self) -> list[ReadLosses]:
        """The steps that were read since the last call, in order."""
        read, self._read = self._read, {}
        return list(read.values())

    def drain(self) -> list[ReadLosses]:
        """As `take`, including pending ones.

        Raises:
            DivergedError: as `check`.
        """
        self.check()
        return self.take()


def steps_between_reads(device: torch.device) -> int:
    """Steps whose losses are read together: on a CPU 1."""
    return 1 if device.type == "cpu" else STEPS_BETWEEN_READS


def _over_group(steps: Sequence[StepLosses], group: Group) -> list[list[float]]:
    """The means of each step over the samples of all processes, and the norm, which is the same on all."""
    if group.alone:
        return _numbers([(*losses.means.values(), losses.norm) for losses in steps])
    table = torch.stack([torch.stack([exact(v) for v in (*losses.means.values(), losses.norm)]) for losses in steps])
    for row, losses in zip(table, steps, strict=True):
        row[:-1] *= 1.0 if losses.share is None else losses.share.counted / losses.share.whole
        row[-1] /= group.size
    group.add(table)
    rows: list[list[float]] = table.tolist()
    return rows


def _numbers(rows: Sequence[Sequence[Tensor]]) -> list[list[float]]:
    """The scalars of each row as numbers."""
    on_cpu = all(value.device.type == "cpu" for row in rows for value in row)
    return [[value.item() for value in row] for row in rows] if on_cpu else read_at_once(rows)


def read_at_once(rows: Sequence[Sequence[Tensor]]) -> list[list[float]]:
    """The scalars of each row as numbers, with one synchronization per device."""
    flat = [exact(value) for row in rows for value in row]
    values = iter(torch.stack(flat).tolist() if flat else [])
    return [[next(values) for _ in row] for row in rows]


def exact(value: Tensor) -> Tensor:
    """`value` in float64, in which sums of float32 are exact enough for any order; MPS has float32 alone."""
    return value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
