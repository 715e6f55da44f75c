"""Residual networks: ResNet-18, ResNet-50, and SE-ResNet-50.

Each block learns what to add to its input. The way past the blocks carries signals and gradients through any depth.

Source: He et al. 2015, arXiv 1512.03385; stride in the 3x3 convolution as in torchvision ("v1.5"); Hu et al. 2017,
arXiv 1709.01507, for squeeze and excitation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from opsin.models.parts.backbone import Backbone
from opsin.models.parts.convolutions import ConvNorm, NormedOptions, he_init, max_pool, pooled, scaled
from opsin.models.parts.layers import large_enough, smallest_side

StrideInName = Literal["first", "middle"]


@dataclass(frozen=True, kw_only=True)
class ResNetOptions(NormedOptions):
    """The options of networks with norms, and what the weights need.

    `stride_in`: which convolution of a bottleneck halves the maps: the `first`, as in the paper and Keras, or the
    `middle` one, as in torchvision. `biases`: convolutions have biases before their norms, as in Keras.
    """

    stride_in: StrideInName = "middle"
    biases: bool = False


class SqueezeExcite(nn.Module):
    """Scales each map by a number in (0, 1) that depends on the means of all maps.

    Source: Hu et al. 2017, arXiv 1709.01507, section 3.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, max(1, channels // reduction), 1)
        self.relu = nn.ReLU(inplace=True)
        self.excite = nn.Conv2d(max(1, channels // reduction), channels, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, C, H, W] to the same shape."""
        means = maps.mean((2, 3), keepdim=True)
        output: Tensor = maps * self.sigmoid(self.excite(self.relu(self.squeeze(means))))
        return output


class Residual(nn.Module):
    """Convolutions, [squeeze and excitation], plus the input (by a 1x1 convolution where shapes differ), ReLU.

    Args:
        convolutions: what is added to the input.
        shortcut: the way past them.
        squeeze: rescales what is added.
    """

    def __init__(self, convolutions: nn.Sequential, shortcut: nn.Module, squeeze: nn.Module) -> None:
        super().__init__()
        self.convolutions, self.shortcut, self.squeeze = convolutions, shortcut, squeeze
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, outputs, ⌈H/s⌉, ⌈W/s⌉]."""
        output: Tensor = self.relu(self.squeeze(self.convolutions(maps)) + self.shortcut(maps))
        return output


class ResNet(Backbone):
    """Stem with max pooling, four stages of residual blocks, means of the last maps, [dropout].

    The pyramid has the stem's maps and each stage's: strides 2, 4, 8, 16, 32. The small stem is a 3x3 convolution
    without stride and pooling; the pyramid then begins with the first stage, at strides 1, 2, 4, 8.

    Args:
        channels: of the images.
        counts: blocks of each stage.
        options: the options of the network.
        bottleneck: blocks of three convolutions (1x1, 3x3, 1x1 to four times the maps), else of two 3x3 ones.
        squeeze: blocks end with squeeze and excitation.
    """

    any_size = True

    def __init__(
        self,
        channels: int,
        counts: tuple[int, ...],
        options: ResNetOptions,
        *,
        bottleneck: bool,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        self._options, self._bottleneck, self._squeeze = options, bottleneck, squeeze
        small = options.stem == "small"
        self.min_side = smallest_side(3 if small else 5)
        inputs = scaled(64, options.width)
        self.stem = self._conv(channels, inputs, 3 if small else 7, stride=1 if small else 2, relu=True)
        self.pool: nn.Module = nn.Identity() if small else max_pool(3)
        self.stages = nn.ModuleList()
        widths = []
        for number, count in enumerate(counts):
            inner = scaled(64 * 2**number, options.width)
            outputs = 4 * inner if bottleneck else inner
            stage = nn.Sequential()
            for repeat in range(count):
                stride = 2 if number > 0 and repeat == 0 else 1
                stage.append(self._block(inputs, inner, outputs, stride))
                inputs = outputs
            self.stages.append(stage)
            widths.append(outputs)
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        self.pyramid_channels = tuple(widths) if small else (scaled(64, options.width), *widths)
        self.num_features = widths[-1]
        he_init(self)

    def _conv(self, inputs: int, outputs: int, side: int, *, stride: int = 1, relu: bool) -> ConvNorm:
        activation = nn.ReLU(inplace=True) if relu else None
        options = self._options
        return ConvNorm(
            inputs,
            outputs,
            side,
            stride=stride,
            bias=options.biases,
            epsilon=options.epsilon,
            activation=activation,
        )

    def _block(self, inputs: int, inner: int, outputs: int, stride: int) -> Residual:
        """One residual block."""
        if self._bottleneck:
            first = stride if self._options.stride_in == "first" else 1
            convolutions = nn.Sequential(
                self._conv(inputs, inner, 1, stride=first, relu=True),
                self._conv(inner, inner, 3, stride=stride // first, relu=True),
                self._conv(inner, outputs, 1, relu=False),
            )
        else:
            convolutions = nn.Sequential(
                self._conv(inputs, inner, 3, stride=stride, relu=True), self._conv(inner, outputs, 3, relu=False)
            )
        shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            shortcut = self._conv(inputs, outputs, 1, stride=stride, relu=False)
        return Residual(convolutions, shortcut, SqueezeExcite(outputs) if self._squeeze else nn.Identity())

    @property
    def sections(self) -> tuple[nn.Module, ...]:
        """The stem and each block."""
        return (self.stem, *(block for stage in self.stages for block in stage.children()))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The stem's maps (not with the small stem) and those of each stage, from fine to coarse."""
        levels = [self.stem(images)]
        maps = self.pool(levels[0])
        for stage in self.stages:
            maps = stage(maps)
            levels.append(maps)
        return levels[-len(self.pyramid_channels) :]

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features]: the means of the coarsest maps."""
        features: Tensor = self.dropout(pooled(levels[-1]))
        return features


def resnet18(channels: int, height: int, width: int, options: ResNetOptions) -> ResNet:
    """ResNet-18 for images [channels, height, width]."""
    return large_enough("resnet18", ResNet(channels, (2, 2, 2, 2), options, bottleneck=False), height, width)


def resnet50(channels: int, height: int, width: int, options: ResNetOptions) -> ResNet:
    """ResNet-50 for images [channels, height, width]."""
    return large_enough("resnet50", ResNet(channels, (3, 4, 6, 3), options, bottleneck=True), height, width)


def seresnet50(channels: int, height: int, width: int, options: ResNetOptions) -> ResNet:
    """SE-ResNet-50 for images [channels, height, width]."""
    return large_enough(
        "seresnet50", ResNet(channels, (3, 4, 6, 3), options, bottleneck=True, squeeze=True), height, width
    )
