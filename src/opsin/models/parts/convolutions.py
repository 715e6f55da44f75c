"""Convolutions and poolings as the published networks have them: two kinds of padding, norms with their epsilon.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opsin.config import StemName, require
from opsin.models.parts.layers import check_dropout

PaddingName = Literal["torch", "same"]
"""How a layer of stride 2 pads: `torch` alike on all sides; `same` as TensorFlow, more at the bottom and the right."""
TORCH_EPSILON = 1e-5
KERAS_EPSILON = 1e-3
"""Default epsilon of batch norm in Keras and TensorFlow, 100 times torch's: noticeable with small variances."""


@dataclass(frozen=True, kw_only=True)
class NormedOptions:
    """Options of every published network with batch norm.

    Width multiplier, stem for small images, dropout before the logits; and the norms' epsilon, which weights need.
    """

    width: float = 1.0
    stem: StemName = "full"
    dropout: float = 0.0
    epsilon: float = TORCH_EPSILON

    def __post_init__(self) -> None:
        check_multiplier(self.width)
        check_dropout(dropout=self.dropout)
        require(0 < self.epsilon < 1, "epsilon", self.epsilon, "0 < x < 1")


def same_padding(maps: Tensor, side: int, stride: int, value: float = 0.0) -> Tensor:
    """Maps padded like TensorFlow's SAME: ⌈H / stride⌉ outputs, the odd row and column at the bottom and the right.

    Args:
        maps: float [B, C, H, W].
        side, stride: of the layer that follows.
        value: padding value.

    Source: TensorFlow, tf.nn, "Notes on padding".
    """
    height, width = (max(0, (math.ceil(n / stride) - 1) * stride + side - n) for n in maps.shape[2:])
    if not height and not width:
        return maps
    return F.pad(maps, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, C, H, W] to [B, K, ⌈H / stride⌉, ⌈W / stride⌉]."""
        return super().forward(same_padding(maps, self.kernel_size[0], self.stride[0]))


class SameMaxPool2d(nn.MaxPool2d):
    """A max pooling with TensorFlow's SAME padding, which never wins."""

    def __init__(self, side: int, stride: int) -> None:
        super().__init__(side, stride)
        self._side, self._stride = side, stride

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, C, H, W] to [B, C, ⌈H / stride⌉, ⌈W / stride⌉]."""
        output: Tensor = super().forward(same_padding(maps, self._side, self._stride, value=-math.inf))
        return output


def convolution(
    inputs: int,
    outputs: int,
    side: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    padding: PaddingName = "torch",
) -> nn.Conv2d:
    """A convolution that keeps the size of its maps but for its stride: float [B, C, H, W] to [B, K, ⌈H/s⌉, ⌈W/s⌉].

    With stride 1 both kinds of padding are the same.
    """
    if padding == "same" and stride > 1:
        return SameConv2d(inputs, outputs, side, stride=stride, groups=groups, bias=bias)
    return nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, groups=groups, bias=bias)


def max_pool(side: int = 3, stride: int = 2, *, padding: PaddingName = "torch") -> nn.MaxPool2d:
    """A max pooling to ⌈H / stride⌉ rows: padded on all sides, or as TensorFlow does."""
    if padding == "same":
        return SameMaxPool2d(side, stride)
    return nn.MaxPool2d(side, stride, padding=(side - 1) // 2)


class ConvNorm(nn.Module):
    """Convolution - batch norm - [activation].

    Args:
        inputs, outputs, side, stride, groups, bias, padding: of the convolution.
        epsilon: of the norm.
        activation: what comes last; None is nothing.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        side: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: PaddingName = "torch",
        epsilon: float = TORCH_EPSILON,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, side, stride=stride, groups=groups, bias=bias, padding=padding)
        self.norm = nn.BatchNorm2d(outputs, eps=epsilon)
        self.activation = activation if activation is not None else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, outputs, ⌈H/s⌉, ⌈W/s⌉]."""
        output: Tensor = self.activation(normed(self.conv, self.norm, maps))
        return output


def normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """`norm(conv(maps))`; a norm in inference mode that is trained through is folded into the convolution.

    Without gradients the two are applied as published, so that a network gives what its reference gives: the roundings
    of folding, 1e-7 in a layer, grow to 5e-5 through the 40 layers of an Xception.
    """
    if norm.training or not torch.is_grad_enabled() or _is_watched(conv) or _is_watched(norm):
        output: Tensor = norm(conv(maps))
        return output
    return folded(conv, norm, maps)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """`norm(conv(maps))` of a norm in inference mode, as one convolution: its scale is put into the filters.

    The norm's pass over the maps is saved, forward and backward, and so is the memory of its input. Gradients reach the
    filters, and the norm's weight and bias, as without it.

    Args:
        conv: whose outputs are normed.
        norm: in inference mode, with weight and bias.
        maps: float [B, C, H, W].

    Returns:
        float [B, K, ⌈H/s⌉, ⌈W/s⌉], equal up to rounding.

    Source: Jacob et al. 2018, arXiv 1712.05877, equation 14.
    """
    assert norm.running_mean is not None  # batch norm that keeps statistics
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    bias = shift if conv.bias is None else shift + conv.bias * scale
    if isinstance(conv, SameConv2d):
        maps = same_padding(maps, conv.kernel_size[0], conv.stride[0])
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(maps, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def _is_watched(layer: nn.Module) -> bool:
    """Whether this layer's output is observed: by a table of layers, feature maps, the input check."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def he_init(module: nn.Module) -> None:
    """Start every convolution inside `module` with He's normal weights by its outputs, dense layers small, biases 0.

    Source: He et al. 2015, arXiv 1502.01852, equation 14; dense layers as torchvision starts them.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def scaled(channels: int, width: float, multiple: int = 8) -> int:
    """Channels times `width`, to the nearest multiple, and never less than 90 % of the product.

    >>> scaled(32, 0.35), scaled(64, 1.0)
    (16, 64)

    Source: Sandler et al. 2018, arXiv 1801.04381, and its published code.
    """
    if width == 1:
        return channels
    near = max(multiple, int(channels * width + multiple / 2) // multiple * multiple)
    return near + multiple if near < 0.9 * channels * width else near


def pooled(maps: Tensor) -> Tensor:
    """The mean of each map: float [B, C, H, W] to [B, C]."""
    return maps.mean((2, 3))


def check_multiplier(width: float) -> None:
    """Refuse an invalid width multiplier.

    Raises:
        ConfigError: it is outside 0 < x <= 8.
    """
    require(0 < width <= 8, "width", width, "0 < x <= 8")
