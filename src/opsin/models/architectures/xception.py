"""Xception: inception taken to its end. Each map is filtered alone, then maps are mixed, in every convolution.

Source: Chollet 2016, arXiv 1610.02357, figure 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from opsin.models.parts.backbone import Backbone
from opsin.models.parts.convolutions import (
    ConvNorm,
    NormedOptions,
    PaddingName,
    convolution,
    he_init,
    max_pool,
    normed,
    pooled,
    scaled,
)
from opsin.models.parts.layers import check_min_side

MIDDLE = 8
"""Blocks of the middle, which keep shape and width."""


@dataclass(frozen=True, kw_only=True)
class XceptionOptions(NormedOptions):
    """The options of networks with norms, and the padding of the weights."""

    padding: PaddingName = "torch"


class Separable(nn.Module):
    """Depthwise 3x3 convolution - 1x1 convolution - batch norm: float [B, inputs, H, W] to [B, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int, epsilon: float) -> None:
        super().__init__()
        self.depthwise = convolution(inputs, inputs, 3, groups=inputs)
        self.pointwise = convolution(inputs, outputs, 1)
        self.norm = nn.BatchNorm2d(outputs, eps=epsilon)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, outputs, H, W]."""
        return normed(self.pointwise, self.norm, self.depthwise(maps))


class Block(nn.Module):
    """ReLUs and separable convolutions, [max pooling], plus the input (by a 1x1 convolution where shapes differ).

    Args:
        inputs: maps that come in.
        widths: maps of each separable convolution.
        stride: 2 halves the maps.
        options: the options of the network.
        begins_with_relu: all do but the first.
    """

    def __init__(
        self, inputs: int, widths: tuple[int, ...], stride: int, options: XceptionOptions, *, begins_with_relu: bool
    ) -> None:
        super().__init__()
        outputs = widths[-1]
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = ConvNorm(
                inputs, outputs, 1, stride=stride, padding=options.padding, epsilon=options.epsilon
            )
        self.begins_with_relu = begins_with_relu
        self.relu = nn.ReLU()  # not in place: the shortcut sees the same maps
        self.convolutions = nn.ModuleList()
        for width in widths:
            self.convolutions.append(Separable(inputs, width, options.epsilon))
            inputs = width
        self.pool = max_pool(3, stride, padding=options.padding) if stride > 1 else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, widths[-1], ⌈H/s⌉, ⌈W/s⌉]."""
        changed = maps
        for number, separable in enumerate(self.convolutions):
            changed = separable(self.relu(changed) if number > 0 or self.begins_with_relu else changed)
        output: Tensor = self.pool(changed) + self.shortcut(maps)
        return output


class Xception(Backbone):
    """Entry (two convolutions, three halving blocks), middle (eight blocks), exit (one halving block, two
    convolutions), means of the last maps, [dropout].

    The pyramid has the maps before each halving and the last: strides 2, 4, 8, 16, 32. With the small stem the first
    convolution and the first block do not halve: strides 1, 2, 4, 8.
    """

    any_size = True

    def __init__(self, channels: int, height: int, width: int, options: XceptionOptions) -> None:
        super().__init__()
        small = options.stem == "small"
        self.min_side = 1 if small else 7
        check_min_side("xception", height, width, self.min_side)
        first, second, third, fourth, middle, wide, wider, last = (
            scaled(count, options.width) for count in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )
        self.stem = nn.Sequential(
            _stem_conv(channels, first, options, stride=1 if small else 2, padding=int(small)),
            _stem_conv(first, second, options, stride=1, padding=int(small)),
        )
        self.entry = nn.ModuleList(
            [
                Block(second, (third, third), 1 if small else 2, options, begins_with_relu=False),
                Block(third, (fourth, fourth), 2, options, begins_with_relu=True),
                Block(fourth, (middle, middle), 2, options, begins_with_relu=True),
            ]
        )
        self.middle = nn.Sequential(
            *(Block(middle, (middle,) * 3, 1, options, begins_with_relu=True) for _ in range(MIDDLE))
        )
        self.exit = Block(middle, (middle, wide), 2, options, begins_with_relu=True)
        self.top = nn.Sequential(
            Separable(wide, wider, options.epsilon),
            nn.ReLU(inplace=True),
            Separable(wider, last, options.epsilon),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        widths = (second, third, fourth, middle, wide)
        self.pyramid_channels = widths[1:] if small else widths
        self.num_features = last
        he_init(self)

    @property
    def sections(self) -> tuple[nn.Module, ...]:
        """The stem, each block, the last convolutions."""
        return (self.stem, *self.entry, *self.middle, self.exit, self.top)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The last maps of each size, from fine to coarse."""
        levels = [self.stem(images)]
        for block in self.entry:
            levels.append(block(levels[-1]))
        levels[-1] = self.middle(levels[-1])
        levels.append(self.exit(levels[-1]))
        return levels[-len(self.pyramid_channels) :]

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features]: the means of the maps of the last convolution."""
        features: Tensor = self.dropout(pooled(self.top(levels[-1])))
        return features


def _stem_conv(inputs: int, outputs: int, options: XceptionOptions, *, stride: int, padding: int) -> ConvNorm:
    """A 3x3 convolution of the stem: without padding, as published; with, for small images."""
    made = ConvNorm(inputs, outputs, 3, stride=stride, epsilon=options.epsilon, activation=nn.ReLU(inplace=True))
    made.conv.padding = (padding, padding)
    return made
