"""GoogLeNet: inception modules look at their maps through filters of several sizes at once.

Source: Szegedy et al. 2014, arXiv 1409.4842; with batch norm, and 3x3 for 5x5 filters, as in torchvision's, whose
weights are those that can be had. The two extra classifiers, which only helped its training, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opsin.models.parts.backbone import Backbone
from opsin.models.parts.convolutions import KERAS_EPSILON, ConvNorm, NormedOptions, he_init, pooled, scaled
from opsin.models.parts.layers import check_min_side


@dataclass(frozen=True, kw_only=True)
class GoogLeNetOptions(NormedOptions):
    """The options of networks with norms, as torchvision's weights need them."""

    dropout: float = 0.2
    epsilon: float = KERAS_EPSILON


@dataclass(frozen=True)
class Widths:
    """Maps of one module: 1x1; 3x3 and its 1x1 before; 5x5 and its 1x1 before; 1x1 after the pooling."""

    ones: int
    threes_before: int
    threes: int
    fives_before: int
    fives: int
    pooled: int

    @property
    def total(self) -> int:
        """Maps that the module gives."""
        return self.ones + self.threes + self.fives + self.pooled


STAGES = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)
"""Source: arXiv 1409.4842, table 1."""


class Inception(nn.Module):
    """Four ways side by side, their maps stacked: 1x1; 1x1 then 3x3; 1x1 then 3x3 (once 5x5); pooling then 1x1."""

    def __init__(self, inputs: int, widths: Widths, epsilon: float) -> None:
        super().__init__()
        self.ones = _conv(inputs, widths.ones, 1, epsilon)
        self.threes = nn.Sequential(
            _conv(inputs, widths.threes_before, 1, epsilon), _conv(widths.threes_before, widths.threes, 3, epsilon)
        )
        self.fives = nn.Sequential(
            _conv(inputs, widths.fives_before, 1, epsilon), _conv(widths.fives_before, widths.fives, 3, epsilon)
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), _conv(inputs, widths.pooled, 1, epsilon))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, widths.total, H, W]."""
        return torch.cat([self.ones(maps), self.threes(maps), self.fives(maps), self.pooled(maps)], dim=1)


def _conv(inputs: int, outputs: int, side: int, epsilon: float, *, stride: int = 1) -> ConvNorm:
    """Convolution - norm - ReLU."""
    return ConvNorm(inputs, outputs, side, stride=stride, epsilon=epsilon, activation=nn.ReLU(inplace=True))


class GoogLeNet(Backbone):
    """Stem, nine inception modules in three stages, means of the last maps, [dropout].

    The pyramid has the maps of the 7x7 convolution, of the stem, and of each stage: strides 2, 4, 8, 16, 32. The
    small stem begins with 3x3 for 7x7 and does not halve; the pyramid then has strides 1, 2, 4, 8.
    """

    any_size = True

    def __init__(self, channels: int, height: int, width: int, options: GoogLeNetOptions) -> None:
        super().__init__()
        self._small = options.stem == "small"
        self.min_side = 4 if self._small else 15
        check_min_side("googlenet", height, width, self.min_side)
        first, second = scaled(64, options.width), scaled(192, options.width)
        epsilon = options.epsilon
        self.conv1 = _conv(channels, first, 3 if self._small else 7, epsilon, stride=1 if self._small else 2)
        self.conv2 = _conv(first, first, 1, epsilon)
        self.conv3 = _conv(first, second, 3, epsilon)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.last_pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.stages = nn.ModuleList()
        inputs, totals = second, []
        for modules in STAGES:
            stage = nn.Sequential()
            for module in modules:
                widths = Widths(*(scaled(count, options.width) for count in vars(module).values()))
                stage.append(Inception(inputs, widths, epsilon))
                inputs = widths.total
            self.stages.append(stage)
            totals.append(inputs)
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        self.pyramid_channels = (second, *totals) if self._small else (first, second, *totals)
        self.num_features = inputs
        he_init(self)

    @property
    def sections(self) -> tuple[nn.Module, ...]:
        """The convolutions of the stem, then each inception module."""
        modules = (module for stage in self.stages for module in stage.children())
        return (self.conv1, self.conv2, self.conv3, *modules)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The last maps of each size, from fine to coarse."""
        first = self.conv1(images)
        levels = [first, self.conv3(self.conv2(first if self._small else self.pool(first)))]
        for stage, pool in zip(self.stages, (self.pool, self.pool, self.last_pool), strict=True):
            levels.append(stage(pool(levels[-1])))
        return levels[-len(self.pyramid_channels) :]

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features]: the means of the coarsest maps."""
        features: Tensor = self.dropout(pooled(levels[-1]))
        return features
