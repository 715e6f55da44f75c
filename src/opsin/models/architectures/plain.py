"""The courses' plain CNN: convolutions that halve the maps, dense layers, logits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

from torch import Tensor, nn

from opsin.config import require
from opsin.config.model import SecondName
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.layers import check_dropout, check_min_side, check_widths, dense_stack, keras_init


@dataclass(frozen=True, kw_only=True)
class PlainOptions:
    """Options of the plain CNN, as in `ModelConfig`."""

    filters: tuple[int, ...] = (32, 64, 128)
    kernel_size: int = 3
    dense: tuple[int, ...] = ()
    batch_norm: bool = True
    conv_dropout: float = 0.0
    dense_dropout: float = 0.0
    dropout: float = 0.0
    downsample: Literal["pool", "stride"] = "pool"
    separable: bool = False
    second_conv: SecondName = "none"
    response_norm: bool = False
    global_pool: bool = False

    def __post_init__(self) -> None:
        check_widths("filters", self.filters)
        check_widths("dense", self.dense)
        check_dropout(conv_dropout=self.conv_dropout, dense_dropout=self.dense_dropout, dropout=self.dropout)
        require(self.kernel_size > 0 and self.kernel_size % 2 == 1, "kernel_size", self.kernel_size, "an odd number")


def separable(inputs: int, outputs: int, side: int, *, stride: int, padding: int) -> nn.Sequential:
    """A convolution in two: each map by a filter of its own, then 1x1 over the maps.

    Source: Chollet 2017, arXiv 1610.02357, section 1.
    """
    depthwise = nn.Conv2d(inputs, inputs, side, stride=stride, padding=padding, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1))


class Second(nn.Module):
    """Convolution - [batch norm] - ReLU that keeps the size of its maps; as a residual, its input is added.

    Source of the residual: He et al. 2016, arXiv 1512.03385, section 3.
    """

    def __init__(self, channels: int, options: PlainOptions) -> None:
        super().__init__()
        make = separable if options.separable else nn.Conv2d
        self.conv = make(channels, channels, options.kernel_size, stride=1, padding=options.kernel_size // 2)
        self.norm = nn.BatchNorm2d(channels) if options.batch_norm else nn.Identity()
        self.relu = nn.ReLU()
        self.residual = options.second_conv == "residual"

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, C, H, W] to [B, C, H, W]."""
        found: Tensor = self.relu(self.norm(self.conv(maps)))
        return maps + found if self.residual else found


class PlainBlock(nn.Module):
    """Convolution - [batch norm] - 2x2 max pooling - ReLU - [dropout], or the same with stride 2 and no pooling.

    ReLU is monotone, so it comes after the pooling with the same result at a quarter of the work. Then, on request, a
    second convolution and a local response normalization, with the constants of AlexNet.

    Args:
        inputs, outputs: channels.
        options: of the network.
        first: the block sees the image; its convolution is never separable.
    """

    def __init__(self, inputs: int, outputs: int, options: PlainOptions, *, first: bool) -> None:
        super().__init__()
        pool = options.downsample == "pool"
        make = nn.Conv2d if first or not options.separable else separable
        self.conv = make(
            inputs, outputs, options.kernel_size, stride=1 if pool else 2, padding=options.kernel_size // 2
        )
        self.norm = nn.BatchNorm2d(outputs) if options.batch_norm else nn.Identity()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.relu = nn.ReLU()
        self.second = nn.Identity() if options.second_conv == "none" else Second(outputs, options)
        self.response_norm = nn.LocalResponseNorm(5, k=2.0) if options.response_norm else nn.Identity()
        self.dropout = nn.Dropout2d(options.conv_dropout) if options.conv_dropout else nn.Identity()

    def before_pool(self, maps: Tensor) -> Tensor:
        """Maps float [B, outputs, H, W] before the pooling and the ReLU; by stride already halved, rounded up."""
        normed: Tensor = self.norm(self.conv(maps))
        return normed

    def after_pool(self, maps: Tensor) -> Tensor:
        """The block's output from what `before_pool` gave."""
        output: Tensor = self.dropout(self.response_norm(self.second(self.relu(self.pool(maps)))))
        return output

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, outputs, H//2, W//2] (rounded up by stride)."""
        return self.after_pool(self.before_pool(maps))


class GlobalMean(nn.Module):
    """The mean of each map. Source: Lin et al. 2013, arXiv 1312.4400, section 3.2."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, C, H, W] to [B, C]."""
        return maps.mean((2, 3))


class Plain(Backbone):
    """Plain blocks, flatten, hidden dense layers, [dropout].

    Convolutions keep the size of their maps ("same" padding) and have biases, also before batch norm, which follows
    every convolution and every hidden dense layer. Weights start as in Keras (`keras_init`). With 10 classes and
    32x32x3 images this gives the courses' published counts of parameters, running statistics of batch norm
    counting as non-trainable:

    | filters | dense | total | trainable |
    |---|---|---|---|
    | 16, 32 | none | 25,770 | 25,674 |
    | 16, 32 | 50 | 108,440 | 108,244 |
    | 16, 32, 32, 32 | 50 | 31,192 | 30,868 |

    The difference fixes the placement: 2 x (16 + 32) = 96 statistics without dense layer, 2 x 50 = 100 more with it.
    """

    def __init__(self, channels: int, height: int, width: int, options: PlainOptions) -> None:
        super().__init__()
        pool = options.downsample == "pool"
        self.min_side = 2 ** len(options.filters) if pool else 1
        check_min_side("plain", height, width, self.min_side)
        widths = pairwise([channels, *options.filters])
        self.blocks = nn.ModuleList(PlainBlock(i, o, options, first=n == 0) for n, (i, o) in enumerate(widths))
        for _ in options.filters:
            height, width = (height // 2, width // 2) if pool else (-(-height // 2), -(-width // 2))
        num_maps = options.filters[-1] if options.filters else channels
        num_flat = num_maps if options.global_pool else num_maps * height * width
        self.any_size = options.global_pool
        self.flatten = GlobalMean() if options.global_pool else nn.Flatten()
        self.dense = dense_stack(num_flat, options.dense, batch_norm=options.batch_norm, dropout=options.dense_dropout)
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        self.num_features = options.dense[-1] if options.dense else num_flat
        last = options.filters[-1:] if pool else ()
        self.pyramid_channels = (*options.filters, *last)
        self._pool = pool
        keras_init(self)

    @property
    def sections(self) -> tuple[nn.Module, ...]:
        """The convolutional blocks, then the dense layers."""
        return (*self.blocks, self.dense)

    def forward(self, images: Tensor) -> Tensor:
        """Features float [B, num_features] of images float [B, C, H, W]."""
        maps = images
        for block in self.blocks:
            maps = block(maps)
        features: Tensor = self.dropout(self.dense(self.flatten(maps)))
        return features

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Each block's maps from fine to coarse: sides H, H/2, … and the last pooled; from H/2 on by stride."""
        levels, maps = [], images
        for module in self.blocks:
            block = cast("PlainBlock", module)
            fine = block.before_pool(maps)
            maps = block.after_pool(fine)
            levels.append(block.relu(fine) if self._pool else maps)
        return [*levels, maps] if self._pool and self.blocks else levels

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features]: the dense layers on the coarsest maps."""
        features: Tensor = self.dropout(self.dense(self.flatten(levels[-1])))
        return features

    def head(self, num_outputs: int) -> nn.Module:
        """A linear head that starts as in Keras."""
        return keras_init(super().head(num_outputs))
