"""U-Net, layer by layer: a contracting encoder and an expanding decoder.

    image ─ stem ─ block ───────────────── skip ─────────────── block ─ head ─ logits of every pixel
                     └ pool ─ block ────── skip ────── block ─ up ┘
                                └ pool ─ block ─ up ─────┘

The encoder is a backbone like any other (`UNet`); the decoder (`Decoder`) works on any backbone's
pyramid. Every part of a U-Net can be removed or replaced: skip connections, batch norm, residual
blocks, the upsampling, the stem's stride.

Source: Ronneberger et al. 2015, arXiv 1505.04597, figure 1; here with padded convolutions, so that sizes are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opsin.config import BlockName, UpsampleName, require
from opsin.models.parts.backbone import Backbone, level_factors
from opsin.models.parts.layers import check_dropout, check_widths
from opsin.models.parts.network import Network


@dataclass(frozen=True, kw_only=True)
class UNetOptions:
    """Options of the encoder: widths of its levels, its blocks, and the stride of the stem (1: there is none)."""

    filters: tuple[int, ...] = (24, 48, 96, 128, 160)
    block: BlockName = "plain"
    batch_norm: bool = True
    stem_stride: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(len(self.filters) > 1, "filters", self.filters, "two widths or more")
        require(self.stem_stride in (1, 2, 4), "stem_stride", self.stem_stride, "1, 2 or 4")
        check_widths("filters", self.filters)
        check_dropout(dropout=self.dropout)


@dataclass(frozen=True, kw_only=True)
class DecoderOptions:
    """Options of the decoder: upsampling, skip connections, blocks, and width.

    `decoder_width` is the least number of maps at any level. Mobile networks have few at their fine levels (16 and 24),
    which is enough for their next layer, but too few for outlines.
    """

    upsample: UpsampleName = "bilinear"
    skips: bool = True
    block: BlockName = "plain"
    batch_norm: bool = True
    decoder_width: int = 1

    def __post_init__(self) -> None:
        require(self.decoder_width > 0, "decoder_width", self.decoder_width, "1 or more")


def convolution(inputs: int, outputs: int, *, side: int = 3, stride: int = 1, batch_norm: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size (but for its stride), with He's initial weights; a bias where no norm follows.

    Source: He et al. 2015, arXiv 1502.01852, equation 10.
    """
    layer = nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=not batch_norm)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def norm(channels: int, *, batch_norm: bool) -> nn.Module:
    """Batch norm, or nothing."""
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


class Block(nn.Module):
    """Two 3x3 convolutions with norms and ReLUs; a residual one adds its input before the last ReLU.

    float [B, inputs, H, W] to [B, outputs, H, W].
    """

    def __init__(self, inputs: int, outputs: int, *, block: BlockName, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, batch_norm=batch_norm)
        self.norm1 = norm(outputs, batch_norm=batch_norm)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = convolution(outputs, outputs, batch_norm=batch_norm)
        self.norm2 = norm(outputs, batch_norm=batch_norm)
        self.relu2 = nn.ReLU(inplace=True)
        self.residual = block == "residual"
        self.shortcut: nn.Module = nn.Identity()
        if self.residual and inputs != outputs:
            self.shortcut = convolution(inputs, outputs, side=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, outputs, H, W]."""
        changed: Tensor = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(maps)))))
        output: Tensor = self.relu2(changed + self.shortcut(maps) if self.residual else changed)
        return output


class UNet(Backbone):
    """The encoder: a strided stem, then a block at each level, with max pooling between. Any size of image.

    As a classifier, its features are the means of the coarsest maps.
    """

    any_size = True

    def __init__(self, channels: int, height: int, width: int, options: UNetOptions) -> None:
        super().__init__()
        first, stride = options.filters[0], options.stem_stride
        self.stem: nn.Module = nn.Identity()
        if stride > 1:
            self.stem = nn.Sequential(
                convolution(channels, first, side=2 * stride + 1, stride=stride, batch_norm=options.batch_norm),
                norm(first, batch_norm=options.batch_norm),
                nn.ReLU(inplace=True),
            )
        widths = [first if stride > 1 else channels, *options.filters]
        self.levels = nn.ModuleList(
            Block(i, o, block=options.block, batch_norm=options.batch_norm) for i, o in pairwise(widths)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        self.pyramid_channels = tuple(options.filters)
        self.num_features = options.filters[-1]

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The maps of each level: sides ⌈H / stride⌉, then halved, rounded up, from level to level."""
        maps = [self.levels[0](self.stem(images))]
        for level in self.levels[1:]:
            maps.append(level(self.pool(maps[-1])))
        maps[-1] = self.dropout(maps[-1])
        return maps

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Means of the coarsest maps: float [B, num_features]."""
        return levels[-1].mean((2, 3))


def upsampling(inputs: int, outputs: int, factor: int, mode: UpsampleName) -> nn.Module:
    """Maps `factor` times as large, with `outputs` channels.

    transpose: a transposed convolution with adjacent filters. bilinear, nearest: a 1x1 convolution, then
    interpolation; in this order the convolution costs least, and bilinear weights commute with it.
    """
    if factor == 1:
        return convolution(inputs, outputs, side=1, batch_norm=False)
    if mode == "transpose":
        return _unit_gain(nn.ConvTranspose2d(inputs, outputs, factor, stride=factor))
    smooth = None if mode == "nearest" else False
    point = _unit_gain(nn.Conv2d(inputs, outputs, 1))
    return nn.Sequential(point, nn.Upsample(scale_factor=factor, mode=mode, align_corners=smooth))


def _unit_gain(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """The layer with normal weights that keep the size of what it sees, where each output sees one pixel; biases 0."""
    nn.init.normal_(layer.weight, std=layer.in_channels**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def decoder_widths(channels: Sequence[int], options: DecoderOptions) -> list[int]:
    """Number of maps at each level of the decoder, from fine to coarse; the coarsest are the encoder's own.

    >>> decoder_widths([16, 24, 96], DecoderOptions(decoder_width=32))
    [32, 32, 96]
    """
    return [max(fine, options.decoder_width) for fine in channels[:-1]] + [channels[-1]]


class Decoder(nn.Module):
    """The decoder, from the coarsest map of a pyramid to the finest.

    Args:
        channels: of each map of the pyramid, from fine to coarse.
        factors: downscaling of each map against the one before; one fewer than maps.
        options: its options.
    """

    def __init__(self, channels: Sequence[int], factors: Sequence[int], options: DecoderOptions) -> None:
        super().__init__()
        self.skips = options.skips
        widths = decoder_widths(channels, options)
        steps = list(zip(pairwise(widths), channels[:-1], factors, strict=True))[::-1]
        self.ups = nn.ModuleList(
            upsampling(coarse, fine, factor, options.upsample) for (fine, coarse), _, factor in steps
        )
        self.blocks = nn.ModuleList(
            Block(fine + skip if options.skips else fine, fine, block=options.block, batch_norm=options.batch_norm)
            for (fine, _), skip, _ in steps
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The pyramid float [B, C_i, H_i, W_i], from fine to coarse, to maps float [B, D, H_0, W_0]."""
        current = maps[-1]
        for up, block, skip in zip(self.ups, self.blocks, maps[-2::-1], strict=True):
            current = fitted(up(current), skip.shape[2], skip.shape[3])
            current = block(torch.cat([current, skip], dim=1) if self.skips else current)
        return current


class Segmenter(Network):
    """A backbone, a decoder over its pyramid, and a head with logits for every pixel.

    Images of any size are padded at the bottom and the right, by their last row and column, to a multiple of the
    backbone's stride; the logits are cropped back, so that they match the image pixel by pixel.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        channels: int,
        height: int,
        width: int,
        options: DecoderOptions,
        learned_input: bool = False,
    ) -> None:
        factors = level_factors(backbone, channels)
        finest = decoder_widths(backbone.pyramid_channels, options)[0]
        head = upsampling(finest, num_classes, factors[0], options.upsample)
        super().__init__(
            backbone,
            {"logits": head},
            channels=channels,
            height=height,
            width=width,
            learned_input=learned_input,
        )
        self.decoder = Decoder(backbone.pyramid_channels, factors[1:], options)
        self.stride = prod(factors)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """{"logits": float [B, K, H, W]} of preprocessed images float [B, C, H, W].

        Raises:
            ConfigError: the images do not have the shape that the network is built for.
        """
        self._check(images)
        H, W = images.shape[2:]
        whole = fitted(images, -(-H // self.stride) * self.stride, -(-W // self.stride) * self.stride)
        maps = self.decoder(self.backbone.pyramid(self.normalize(whole)))
        return {"logits": fitted(self.heads["logits"](maps), H, W)}


def fitted(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps float [B, C, H, W] cut, or continued by their last row and column, at the bottom and the right."""
    maps = maps[:, :, :height, :width]
    missing = height - maps.shape[2], width - maps.shape[3]
    return F.pad(maps, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else maps
