"""Settings of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opsin.config.checks import require

BlockName = Literal["plain", "residual"]
StemName = Literal["full", "small"]
SecondName = Literal["none", "plain", "residual"]
UpsampleName = Literal["transpose", "bilinear", "nearest"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network and its options. An option that the network does not have is refused.

    Parameters
    ----------
    model
        Name of the architecture; `opsin models` lists them.
    filters
        Filters of each convolutional layer (plain), or the widths of the stages (others).
    conv_layers
        Number of convolutional layers of the plain CNN, instead of `filters`; each has twice the filters of the last.
    first_filters
        Filters of the first of `conv_layers`.
    kernel_size
        Side of the plain CNN's filters.
    width
        Factor of all widths of a published network, e.g. 0.5 for half the filters.
    stem
        Start of a published network: full, as published, or small, for images of 32 to 96 pixels.
    dense
        Nodes of each dense layer between the convolutions and the logits.
    batch_norm
        Batch normalization after each convolution and each dense layer.
    conv_dropout
        Share of activations dropped after each convolutional layer and its pooling.
    dense_dropout
        Share of activations dropped before each dense layer.
    dropout
        Share of activations dropped before the logits.
    downsample
        How the plain CNN halves its maps: max pooling or stride 2.
    separable
        Depthwise-separable convolutions in the plain CNN, from its second layer on.
    second_conv
        A second convolution in each block of the plain CNN: none, plain, or residual (added to what it sees).
    response_norm
        Local response normalization after each block of the plain CNN, as in AlexNet.
    global_pool
        The mean of each map for the plain CNN's dense layers, instead of all its pixels: it then takes any size.
    block
        Blocks of the U-Net: plain, or residual.
    stem_stride
        Stride of the U-Net's first convolution: 1, 2 or 4.
    upsample
        How maps grow again where every pixel is classified: transpose, bilinear or nearest.
    decoder_width
        Least number of maps at each level of the decoder over a backbone, where every pixel is classified.
    encoder
        Encoder of deeplabv3plus and fpn, by the name that segmentation-models-pytorch has for it, e.g. resnet18.
    skips
        Skip connections between maps of the same size, where every pixel is classified.
    """

    model: str = "plain"
    filters: tuple[int, ...] | None = None
    conv_layers: int | None = None
    first_filters: int | None = None
    kernel_size: int | None = None
    width: float | None = None
    stem: StemName | None = None
    dense: tuple[int, ...] | None = None
    batch_norm: bool | None = None
    conv_dropout: float | None = None
    dense_dropout: float | None = None
    dropout: float | None = None
    downsample: Literal["pool", "stride"] | None = None
    separable: bool | None = None
    second_conv: SecondName | None = None
    response_norm: bool | None = None
    global_pool: bool | None = None
    block: BlockName | None = None
    stem_stride: int | None = None
    upsample: UpsampleName | None = None
    skips: bool | None = None
    decoder_width: int | None = None
    encoder: str | None = None

    def __post_init__(self) -> None:
        for name in ("filters", "dense"):
            require(all(n > 0 for n in getattr(self, name) or ()), name, getattr(self, name), "positive numbers")
        for name in ("conv_dropout", "dense_dropout", "dropout"):
            require(
                getattr(self, name) is None or 0 <= getattr(self, name) < 1, name, getattr(self, name), "0 <= x < 1"
            )
        for name in ("conv_layers", "first_filters"):
            require(getattr(self, name) is None or getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        require(self.width is None or 0 < self.width <= 8, "width", self.width, "0 < x <= 8")
        odd = self.kernel_size is None or (self.kernel_size > 0 and self.kernel_size % 2 == 1)
        require(odd, "kernel_size", self.kernel_size, "an odd number")
