"""The courses' plain CNN: convolutions that halve the maps, dense layers, logits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

from torch import Tensor, nn

from opsin.config import require
from opsin.models.backbone import Backbone
from opsin.models.layers import check_dropout, check_min_side, check_widths, dense_stack, keras_init


@dataclass(frozen=True, kw_only=True)
class PlainOptions:
    """Knobs of the plain CNN; each means what it means in `ModelConfig`."""

    filters: tuple[int, ...] = (32, 64, 128)
    kernel_size: int = 3
    dense: tuple[int, ...] = ()
    batch_norm: bool = True
    conv_dropout: float = 0.0
    dense_dropout: float = 0.0
    dropout: float = 0.0
    downsample: Literal["pool", "stride"] = "pool"

    def __post_init__(self) -> None:
        check_widths("filters", self.filters)
        check_widths("dense", self.dense)
        check_dropout(conv_dropout=self.conv_dropout, dense_dropout=self.dense_dropout, dropout=self.dropout)
        require(self.kernel_size > 0 and self.kernel_size % 2 == 1, "kernel_size", self.kernel_size, "an odd number")


class PlainBlock(nn.Module):
    """Convolution - [batch norm] - 2x2 max pooling - ReLU - [dropout], or the same with stride 2 and no pooling.

    ReLU is monotone, so it comes after the pooling with the same result at a quarter of the work.
    """

    def __init__(self, inputs: int, outputs: int, options: PlainOptions) -> None:
        super().__init__()
        pool = options.downsample == "pool"
        side = options.kernel_size
        self.conv = nn.Conv2d(inputs, outputs, side, stride=1 if pool else 2, padding=side // 2)
        self.norm = nn.BatchNorm2d(outputs) if options.batch_norm else nn.Identity()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout2d(options.conv_dropout) if options.conv_dropout else nn.Identity()

    def before_pool(self, maps: Tensor) -> Tensor:
        """Maps float [B, outputs, H, W] before the pooling and the ReLU; by stride already halved, rounded up."""
        normed: Tensor = self.norm(self.conv(maps))
        return normed

    def after_pool(self, maps: Tensor) -> Tensor:
        """The block's output from what `before_pool` gave."""
        output: Tensor = self.dropout(self.relu(self.pool(maps)))
        return output

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, outputs, H//2, W//2] (rounded up by stride)."""
        return self.after_pool(self.before_pool(maps))


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
        self.blocks = nn.ModuleList(PlainBlock(i, o, options) for i, o in pairwise([channels, *options.filters]))
        for _ in options.filters:
            height, width = (height // 2, width // 2) if pool else (-(-height // 2), -(-width // 2))
        num_flat = (options.filters[-1] if options.filters else channels) * height * width
        self.flatten = nn.Flatten()
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
