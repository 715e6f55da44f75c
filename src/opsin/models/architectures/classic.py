"""The first deep networks, before batch norm: LeNet-5, AlexNet, VGG16. Convolutions, pooling, dense layers.

Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition"; Krizhevsky et al. 2012, "ImageNet
classification with deep convolutional neural networks"; Simonyan and Zisserman 2014, arXiv 1409.1556.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from opsin.config import StemName
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.convolutions import check_multiplier, he_init, pooled, scaled
from opsin.models.parts.layers import check_dropout, check_min_side, check_widths


@dataclass(frozen=True, kw_only=True)
class ClassicOptions:
    """Options: width multiplier, stem for small images, dense layers, dropout before each of them.

    Without dense layers the features are the means of the last maps.
    """

    width: float = 1.0
    stem: StemName = "full"
    dense: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_multiplier(self.width)
        check_dropout(dropout=self.dropout)
        check_widths("dense", self.dense)


@dataclass(frozen=True, kw_only=True)
class AlexNetOptions(ClassicOptions):
    """And whether the first two layers have local response normalization, as published; torchvision's have none."""

    response_norm: bool = True


@dataclass(frozen=True, kw_only=True)
class LeNetOptions:
    """Options: nodes of the dense layers, dropout before the logits."""

    dense: tuple[int, ...] = (120, 84)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(dropout=self.dropout)
        check_widths("dense", self.dense)


class DenseTop(nn.Module):
    """Maps averaged to a grid of one size, flattened, then per layer [dropout] - linear - ReLU.

    Args:
        channels: of the maps.
        side: rows and columns of the grid.
        nodes: of each layer.
        dropout: share of activations dropped before each layer.
    """

    def __init__(self, channels: int, side: int, nodes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.flatten = nn.Flatten()
        self.layers = nn.Sequential()
        inputs = channels * side * side
        for outputs in nodes:
            self.layers.append(nn.Dropout(dropout))
            self.layers.append(nn.Linear(inputs, outputs))
            self.layers.append(nn.ReLU(inplace=True))
            inputs = outputs

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, C, H, W] to float [B, nodes[-1]]."""
        output: Tensor = self.layers(self.flatten(self.pool(maps)))
        return output


class Means(nn.Module):
    """The mean of each map, [dropout]: float [B, C, H, W] to [B, C]."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """Means float [B, C]."""
        output: Tensor = self.dropout(pooled(maps))
        return output


class Staged(Backbone):
    """Stages of convolutions with pooling between them, then what makes one vector of the last maps.

    Args:
        stages: of convolutions; the pyramid has the maps of each, before they are pooled.
        pool: between the stages.
        last: from the last maps to the features, with its own pooling where there is one.
    """

    any_size = True

    def __init__(self, stages: Sequence[nn.Module], pool: nn.Module, last: nn.Sequential) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.pool = pool
        self.last = last

    @property
    def sections(self) -> tuple[nn.Module, ...]:
        """Each stage, then the dense layers."""
        return (*self.stages, self.last)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The maps of each stage, from fine to coarse."""
        levels = [self.stages[0](images)]
        for stage in self.stages[1:]:
            levels.append(stage(self.pool(levels[-1])))
        return levels

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features]."""
        features: Tensor = self.last(levels[-1])
        return features


def _relus(*convolutions: nn.Module) -> nn.Sequential:
    """Each convolution followed by a ReLU."""
    stack = nn.Sequential()
    for convolution in convolutions:
        stack.append(convolution)
        stack.append(nn.ReLU(inplace=True))
    return stack


class VGG16(Staged):
    """Five stages of 3x3 convolutions (2, 2, 3, 3, 3) with max pooling after each, two dense layers.

    The pyramid has the maps of each stage, at strides 1, 2, 4, 8, 16. The small stem leaves out the first and the last
    pooling and averages to one pixel before the dense layers.
    """

    def __init__(self, channels: int, height: int, width: int, options: ClassicOptions) -> None:
        small = options.stem == "small"
        widths = [scaled(count, options.width) for count in (64, 128, 256, 512, 512)]
        stages = []
        inputs = channels
        for outputs, count in zip(widths, (2, 2, 3, 3, 3), strict=True):
            sides = [inputs, *[outputs] * count]
            stages.append(_relus(*(nn.Conv2d(i, outputs, 3, padding=1) for i in sides[:-1])))
            inputs = outputs
        top = _top(widths[-1], 1 if small else 7, options)
        last = nn.Sequential(nn.Identity() if small else nn.MaxPool2d(2), top)
        super().__init__(stages, nn.MaxPool2d(2), last)
        self.min_side = 16 if small else 32
        check_min_side("vgg16", height, width, self.min_side)
        self.pyramid_channels = tuple(widths)
        self.num_features = options.dense[-1] if options.dense else widths[-1]
        he_init(self)


class AlexNet(Staged):
    """Five convolutions (11x11 of stride 4, 5x5, three 3x3), max pooling after the first, second and last, dense.

    As published but for one thing: all maps are on one device, so that convolutions see all of them ("one weird
    trick", arXiv 1404.5997, whose widths torchvision has too). The small stem is 3x3 of stride 1.
    """

    def __init__(self, channels: int, height: int, width: int, options: AlexNetOptions) -> None:
        small = options.stem == "small"
        widths = [scaled(count, options.width) for count in (64, 192, 384, 256, 256)]
        side, stride, padding = (3, 1, 1) if small else (11, 4, 2)
        first = _relus(nn.Conv2d(channels, widths[0], side, stride=stride, padding=padding))
        second = _relus(nn.Conv2d(widths[0], widths[1], 5, padding=2))
        if options.response_norm:
            first.append(response_norm())
            second.append(response_norm())
        third = _relus(*(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths[1:])))
        top = _top(widths[-1], 1 if small else 6, options)
        super().__init__([first, second, third], nn.MaxPool2d(3, 2), nn.Sequential(nn.MaxPool2d(3, 2), top))
        self.min_side = 15 if small else 63
        check_min_side("alexnet", height, width, self.min_side)
        self.pyramid_channels = (widths[0], widths[1], widths[-1])
        self.num_features = options.dense[-1] if options.dense else widths[-1]
        he_init(self)


def response_norm() -> nn.LocalResponseNorm:
    """Divides each activation by those of its five neighbours among the maps: lateral inhibition.

    Torch divides `alpha` by the number of neighbours, which the paper does not: so it is five times the paper's 1e-4.

    Source: Krizhevsky et al. 2012, section 3.3.
    """
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def _top(channels: int, side: int, options: ClassicOptions) -> nn.Module:
    """The dense layers, or the means of the maps where there are none."""
    if not options.dense:
        return Means(options.dropout)
    return DenseTop(channels, side, options.dense, options.dropout)


class LeNet5(Staged):
    """5x5 convolutions to 6 and 16 maps with mean pooling, dense layers, tanh throughout. For 28x28 or 32x32 images.

    28x28 images are padded by two at the first convolution, as LeCun's are, whose digits have 28 of 32 pixels. Other
    sizes are averaged to 5x5 before the dense layers. As in today's accounts of it, every map of the second
    convolution sees all six of the first (LeCun's sixteen see chosen ones), and the logits are linear.
    """

    def __init__(self, channels: int, height: int, width: int, options: LeNetOptions) -> None:
        padding = 2 if min(height, width) < 32 else 0
        first = nn.Sequential(nn.Conv2d(channels, 6, 5, padding=padding), nn.Tanh())
        second = nn.Sequential(nn.Conv2d(6, 16, 5), nn.Tanh())
        last = nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(5), nn.Flatten())
        inputs = 16 * 5 * 5
        for outputs in options.dense:
            last.extend([nn.Linear(inputs, outputs), nn.Tanh()])
            inputs = outputs
        last.append(nn.Dropout(options.dropout) if options.dropout else nn.Identity())
        super().__init__([first, second], nn.AvgPool2d(2), last)
        self.min_side = 16 - 2 * padding
        check_min_side("lenet5", height, width, self.min_side)
        self.pyramid_channels = (6, 16)
        self.num_features = inputs
