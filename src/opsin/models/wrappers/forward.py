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
        return network.to(memory_format=torch.channels_last) if self.channels_last else network


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
