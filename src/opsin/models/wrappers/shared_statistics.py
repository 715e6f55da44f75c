"""Batch norms that normalize over the batches of all processes, rather than each over its own share.

On GPUs PyTorch's SyncBatchNorm does it. It computes on no processor, so there the class of a norm is changed to one
that adds up sums over the group: names, tensors and copies stay what they are.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

from opsin.models.freezing import Pinned


def share_statistics(network: nn.Module, device: torch.device) -> int:
    """Let the batch norms of `network` normalize over all processes while it is trained; returns how many there are.

    Norms that are pinned in inference mode stay so. There is a process group.
    """
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, _BatchNorm) and not isinstance(child, Pinned)
    ]
    for parent, name, norm in found:
        if device.type == "cuda":
            setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(norm))  # type: ignore[no-untyped-call]
        elif not isinstance(norm, Shared):
            kind = type(norm)
            norm.__class__ = _SHARED.setdefault(kind, type(kind.__name__, (Shared, kind), {}))
    return len(found)


class Shared(nn.Module):
    """A batch norm over the samples of all processes. Source: arXiv 1502.03167, algorithm 1, over the whole batch."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalize `images`, float32 [B, C, ...]; gradients go through the statistics of all processes."""
        norm: Any = self
        if not norm.training or not dist.is_initialized():
            normalized: Tensor = super().forward(images)
            return normalized
        across = [dim for dim in range(images.ndim) if dim != 1]
        count = torch.tensor([images.numel() / images.shape[1]])
        dist.all_reduce(count)
        mean = _summed(images.float().sum(across)) / count
        shape = (1, -1, *[1] * (images.ndim - 2))
        centred = images.float() - mean.view(shape)
        variance = _summed(centred.square().sum(across)) / count
        if norm.track_running_stats:
            _keep(norm, mean.detach(), variance.detach() * count / (count - 1).clamp_min(1))
        scaled = centred * (variance + norm.eps).rsqrt().view(shape)
        if norm.affine:
            scaled = scaled * norm.weight.view(shape) + norm.bias.view(shape)
        normalized = scaled.to(images.dtype)
        return normalized


_SHARED: dict[type[Any], type[Any]] = {}


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    """The sum over all processes, [C]."""
    total: Tensor = _Sum.apply(values)
    return total


@torch.no_grad()
def _keep(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Bring the running statistics up to date."""
    norm.num_batches_tracked.add_(1)
    rate = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, rate)
    norm.running_var.lerp_(variance, rate)
