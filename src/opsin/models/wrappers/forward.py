"""The only way from batched images into a network: device, memory format, preprocessing, precision.

    uint8 or float32 [B, C, H, W] in [0, 255]  ──  Forward  ──  outputs of the network

Training, prediction (tiles too), frozen features, preflight and explanation go through it, so that they cannot disagree
on its input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from opsin.batches.preprocess import Preprocess

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Outputs = TypeVar("Outputs")
NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How the forward and backward passes are computed. Weights are always kept in float32."""

    dtype: str = "float32"
    channels_last: bool = True
    compile: bool = False

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context of the forward pass."""
        dtype = DTYPES[self.dtype]
        return torch.autocast(
            device.type, dtype=None if dtype is torch.float32 else dtype, enabled=dtype is not torch.float32
        )

    def place(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Move `network` to `device` in the chosen memory format."""
        network = network.to(device)
        return to_channels_last(network) if self.channels_last else network


ONEDNN_BLOCK = 16
"""Channels that oneDNN computes at a time: 16 with AVX-512, 8 with AVX2."""


def to_channels_last(network: NetworkT) -> NetworkT:
    """Change `network` to channels last, but for convolutions whose gradient oneDNN computes wrongly in that format.

    The weight gradient of a 1x1 convolution with a stride and fewer input channels than a block is written past the end
    of a buffer: the process crashes, or the gradient is wrong. Such a layer computes in channels first.

    Source: oneDNN issue 6035; PyTorch 2.14.1 with two threads or more.
    """
    network = network.to(memory_format=torch.channels_last)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and _is_miscomputed(layer):
            layer.weight.data = layer.weight.data.clone(memory_format=torch.contiguous_format)
            if _channels_first not in layer._forward_pre_hooks.values():
                layer.register_forward_pre_hook(_channels_first)
    return network


def _is_miscomputed(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (1, 1) and max(layer.stride) > 1 and layer.in_channels // layer.groups < ONEDNN_BLOCK


def _channels_first(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # not `contiguous()`, which leaves the strides of images of one pixel or channel as they are
    return (inputs[0].clone(memory_format=torch.contiguous_format), *inputs[1:])


AS_BATCHED = Precision(channels_last=False)
"""float32 in the memory format that images are batched in."""


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Applies a network's input contract.

    Args:
        preprocess: the network's input contract.
        precision: how the pass is computed.
        device: device; None leaves images where they are.
    """

    preprocess: Preprocess
    precision: Precision = field(default_factory=Precision)
    device: torch.device | None = None

    def __call__(self, network: Callable[[Tensor], Outputs], images: Tensor) -> Outputs:
        """Output of `network`, or of a part that takes its input, for `images` [B, C, H, W] in [0, 255]."""
        shown = self.input(images)
        with self.precision.autocast(shown.device):
            return network(shown)

    def input(self, images: Tensor) -> Tensor:
        """The network's input.

        Args:
            images: uint8 or float32 [B, 3 or 1, H, W] in [0, 255], RGB or grey; not changed.

        Returns:
            float32 [B, channels, H, W] on the device and in the memory format of the pass.
        """
        images = images if self.device is None else images.to(self.device)
        if not self.precision.channels_last:
            return self.preprocess(images)
        # bytes are converted before scaling; floats after, as planar channels are scaled faster
        if not images.is_floating_point():
            images = images.contiguous(memory_format=torch.channels_last)
        return self.preprocess(images).contiguous(memory_format=torch.channels_last)
