"""Networks of inverted residual blocks: MobileNetV2 and EfficientNet-Lite0.

A block widens its maps by a 1x1 convolution, filters each map alone (a depthwise convolution), and projects back to few
maps without an activation; input and output are added where they have the same shape. Few numbers are kept between
blocks, and the widest part costs little, as every map is filtered alone.

Source: Sandler et al. 2018, arXiv 1801.04381; Tan and Le 2019, arXiv 1905.11946, and the published code of its "lite"
variants: no squeeze-and-excitation, ReLU6 for swish, first and last layers of fixed width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from opsin.models.parts.backbone import Backbone
from opsin.models.parts.convolutions import (
    KERAS_EPSILON,
    ConvNorm,
    NormedOptions,
    PaddingName,
    he_init,
    pooled,
    scaled,
)
from opsin.models.parts.layers import large_enough, smallest_side


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Options(NormedOptions):
    """The options of networks with norms, and the padding of the weights."""

    dropout: float = 0.2
    padding: PaddingName = "torch"


@dataclass(frozen=True, kw_only=True)
class EfficientNetLiteOptions(NormedOptions):
    """The options of MobileNetV2, with TensorFlow's padding and epsilon, which its published weights need."""

    dropout: float = 0.2
    padding: PaddingName = "same"
    epsilon: float = KERAS_EPSILON


MobileOptions = MobileNetV2Options | EfficientNetLiteOptions


@dataclass(frozen=True)
class Stage:
    """Blocks of one width: by how much each widens, its outputs, how many, the first one's stride, filters' side."""

    expand: int
    outputs: int
    count: int
    stride: int
    side: int = 3


MOBILENET_V2 = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
"""Source: arXiv 1801.04381, table 2."""
EFFICIENTNET_LITE0 = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1),
)
"""Source: arXiv 1905.11946, table 1."""


class InvertedResidual(nn.Module):
    """[1x1 convolution that widens] - depthwise convolution - 1x1 convolution that narrows; plus the input."""

    def __init__(self, inputs: int, outputs: int, stride: int, stage: Stage, options: MobileOptions) -> None:
        super().__init__()
        inner, epsilon = inputs * stage.expand, options.epsilon
        self.expand: nn.Module = nn.Identity()
        if stage.expand > 1:
            self.expand = ConvNorm(inputs, inner, 1, epsilon=epsilon, activation=nn.ReLU6(inplace=True))
        self.depthwise = ConvNorm(
            inner,
            inner,
            stage.side,
            stride=stride,
            groups=inner,
            padding=options.padding,
            epsilon=epsilon,
            activation=nn.ReLU6(inplace=True),
        )
        self.project = ConvNorm(inner, outputs, 1, epsilon=epsilon)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, outputs, ⌈H/s⌉, ⌈W/s⌉]."""
        changed: Tensor = self.project(self.depthwise(self.expand(maps)))
        return maps + changed if self.adds else changed


class Mobile(Backbone):
    """Stem, inverted residual blocks, 1x1 convolution to 1,280 maps, their means, [dropout].

    The pyramid has the blocks' narrow outputs, at strides 2, 4, 8, 16 and 32 (with the small stem 1, 1, 2, 4 and 8,
    of which the first two share a size, so that the first is left out).

    Args:
        channels: of the images.
        stages: the blocks.
        options: the options of the network.
        fixed_stem: whether the stem keeps its 32 filters at every width.
    """

    any_size = True

    def __init__(self, channels: int, stages: tuple[Stage, ...], options: MobileOptions, *, fixed_stem: bool) -> None:
        super().__init__()
        small = options.stem == "small"
        self.min_side = smallest_side(3 if small else 5)
        outputs = 32 if fixed_stem else scaled(32, options.width)
        self.stem = ConvNorm(
            channels,
            outputs,
            stride=1 if small else 2,
            padding=options.padding,
            epsilon=options.epsilon,
            activation=nn.ReLU6(inplace=True),
        )
        blocks: list[InvertedResidual] = []
        strides = []
        for number, stage in enumerate(stages):
            for repeat in range(stage.count):
                inputs, outputs = outputs, scaled(stage.outputs, options.width)
                stride = stage.stride if repeat == 0 and not (small and number == 1) else 1
                blocks.append(InvertedResidual(inputs, outputs, stride, stage, options))
                strides.append(stride)
        self.bottlenecks = nn.ModuleList(blocks)
        self.num_features = 1280 if fixed_stem else max(1280, scaled(1280, options.width))
        self.top = ConvNorm(outputs, self.num_features, 1, epsilon=options.epsilon, activation=nn.ReLU6(inplace=True))
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        ends = [number for number, stride in enumerate(strides[1:]) if stride == 2]
        self._level_ends = (*ends, len(blocks) - 1)
        self.pyramid_channels = tuple(blocks[end].project.norm.num_features for end in self._level_ends)
        he_init(self)

    @property
    def sections(self) -> tuple[nn.Module, ...]:
        """The stem, each block, the last convolution."""
        return (self.stem, *self.bottlenecks, self.top)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The last maps of each size, from fine to coarse."""
        levels, maps = [], self.stem(images)
        for number, block in enumerate(self.bottlenecks):
            maps = block(maps)
            if number in self._level_ends:
                levels.append(maps)
        return levels

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features]: the means of the maps of the last convolution."""
        features: Tensor = self.dropout(pooled(self.top(levels[-1])))
        return features


def mobilenet_v2(channels: int, height: int, width: int, options: MobileNetV2Options) -> Mobile:
    """MobileNetV2 for images [channels, height, width]."""
    return large_enough("mobilenet_v2", Mobile(channels, MOBILENET_V2, options, fixed_stem=False), height, width)


def efficientnet_lite0(channels: int, height: int, width: int, options: EfficientNetLiteOptions) -> Mobile:
    """EfficientNet-Lite0 for images [channels, height, width]."""
    return large_enough(
        "efficientnet_lite0", Mobile(channels, EFFICIENTNET_LITE0, options, fixed_stem=True), height, width
    )
