"""A network that several processes train together: each has a copy, and their gradients are averaged.

PyTorch's DistributedDataParallel does it, while the backward pass still runs. What is added here: a new wrapper when
other parameters are trained than before (fine-tuning by stages), the weight of a share of the batch, and a trial before
the first step. The trial finds parameters without a gradient, whose search in every step costs time and is otherwise
left out; and it lets the wrapper order its buckets, in whose order gradients are added up: so a resumed run adds in the
order of an unbroken one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from opsin.batches.batch import Batch
from opsin.group import Group


class Replicas:
    """The copies of one network, as one of the processes calls its own.

    Args:
        network: of this process; the lead's weights are given to the others at the first step.
        group: the processes. Alone, nothing is wrapped.
        device: of this process.
        compiled: compile the copy.
    """

    def __init__(self, network: nn.Module, group: Group, device: torch.device, *, compiled: bool = False) -> None:
        self.network, self.group, self.device, self.compiled = network, group, device, compiled
        self._wrapped: DistributedDataParallel | None = None
        self._call: Callable[[Tensor], Mapping[str, Tensor]] = self._ready(network) if group.alone else network
        self._parameters, self._trained = list[nn.Parameter](), list[nn.Parameter]()

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """What the network gives for its input; the backward pass of it averages gradients."""
        return self._call(images)

    def weight(self, batch: Batch) -> float:
        """By what the mean loss of `batch` is multiplied, so that the average of all processes is that of the step."""
        share = batch.share
        return 1.0 if share is None else self.group.size * share.counted / share.whole

    def prepare(self, loss: Callable[[], Tensor]) -> None:
        """Wrap the network, where other parameters are trained than before.

        Args:
            loss: computes the loss of a few images; weights, statistics and generators are left as they are.
        """
        if self.group.alone:
            return
        self._parameters = self._parameters or list(self.network.parameters())
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        if self._wrapped is not None and len(trained) == len(self._trained):
            return  # sections are opened and closed from the top down: of equal number they are the same
        self._trained = trained
        if self._wrapped is not None:
            self._wrapped._remove_autograd_hooks()  # type: ignore[no-untyped-call]
        self._call = self.network
        self._try(loss)
        unused = self.group.any([parameter.grad is None for parameter in trained])
        self.network.zero_grad(set_to_none=True)
        self._wrapped = self._wrap(searches=unused)
        self._call = self._ready(self._wrapped)
        self._try(loss)
        self.network.zero_grad(set_to_none=True)

    def _ready(self, module: nn.Module) -> Callable[[Tensor], Mapping[str, Tensor]]:
        """What computes a pass of `module`."""
        compiled: Callable[[Tensor], Mapping[str, Tensor]] = torch.compile(module) if self.compiled else module
        return compiled

    @contextmanager
    def averaging(self, *, now: bool) -> Iterator[None]:
        """Forward and backward pass of a part of the batch; gradients are averaged after the last part alone."""
        with nullcontext() if now or self._wrapped is None else self._wrapped.no_sync():
            yield

    def _try(self, loss: Callable[[], Tensor]) -> None:
        """A step's forward and backward pass, which leave gradients and nothing else."""
        buffers = list(self.network.buffers())
        kept = [buffer.clone() for buffer in buffers]
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            loss().backward()  # type: ignore[no-untyped-call]
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)

    def _wrap(self, *, searches: bool) -> DistributedDataParallel:
        with warnings.catch_warnings():
            # PyTorch 2.14 renames `broadcast_buffers`; earlier ones know no other name
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                self.network,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                broadcast_buffers=False,  # statistics are the lead's where they are read: in scores and checkpoints
                find_unused_parameters=searches,
                gradient_as_bucket_view=True,
            )
