"""Networks for any size of image: flatten and dense layers become convolutions.

A dense layer on maps of C x h x w numbers is a convolution with kernel h x w, without padding: on maps of that
size its output has one pixel. On larger maps it has many: the same network at every position. Dense layers after
it become 1x1 convolutions. A global maximum becomes a maximum over windows of the training size.

The other way to any size is global pooling, which `small` and `tiny` have: it gives one prediction for the whole image,
without positions.

Source: Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation", 2015, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opsin.errors import ConfigError
from opsin.models.architectures.dense import Dense
from opsin.models.architectures.plain import Plain
from opsin.models.architectures.small import Small
from opsin.models.architectures.tiny import Tiny
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.network import Network

Size = tuple[int, int, int]
"""Channels, height, width."""


class FullyConvolutional(nn.Module):
    """A network with predictions at every position of an image.

    Args:
        normalize, body: compute the maps of an image.
        tail: convolutions that were dense layers, up to the heads.
        heads: convolutions by the names of the outputs.
        size: channels, height and width of the images that it was trained on, the smallest that it takes.
    """

    def __init__(
        self, normalize: nn.Module, body: nn.Module, tail: nn.Module, heads: dict[str, nn.Module], size: Size
    ) -> None:
        super().__init__()
        self.channels, self.height, self.width = size
        self.normalize, self.body, self.tail = normalize, body, tail
        self.heads = nn.ModuleDict(heads)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs at every position, float [B, K, h, w], of images float [B, C, H, W]; one position at the training
        size.

        Raises:
            ConfigError: the images are smaller than those of training, or have other channels.
        """
        _, channels, height, width = images.shape
        if channels != self.channels or height < self.height or width < self.width:
            raise ConfigError(
                "images are too small for this network",
                got=f"{channels}x{height}x{width}",
                expected=f"{self.channels} channels, at least {self.height}x{self.width}",
                do="enlarge the images to the size of training",
            )
        features = self.tail(self.body(self.normalize(images)))
        return {name: head(features) for name, head in self.heads.items()}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs float [B, K]: means over all positions; at the training size those of the dense network."""
        return {name: output.mean((2, 3)) for name, output in self.maps(images).items()}


def fully_convolutional(network: Network) -> FullyConvolutional:
    """The network with convolutions for its dense layers; weights are copied, `network` is unchanged.

    Raises:
        ConfigError: its architecture has layers that cannot be converted.
    """
    backbone, size = network.backbone, (network.channels, network.height, network.width)
    body, layers = _body_and_layers(backbone)
    maps = _maps_of(body, network.normalize, size)
    tail, seen = nn.Sequential(), maps
    for name, layer in layers.items():
        tail.add_module(name, _converted(layer, seen))
        if isinstance(layer, nn.Linear):
            seen = (layer.out_features, 1, 1)
        elif isinstance(layer, WindowMaximum):
            seen = (maps[0], 1, 1)
    heads = {name: _converted(head, seen) for name, head in network.heads.items()}
    return FullyConvolutional(network.normalize, body, tail, heads, size)


def to_convolution(layer: nn.Linear, size: Size) -> nn.Conv2d:
    """The convolution equivalent to a dense layer on flattened maps of `size`.

    Weights [out, C * h * w] become filters [out, C, h, w].
    """
    channels, height, width = size
    made = nn.Conv2d(channels, layer.out_features, (height, width), bias=layer.bias is not None)
    made = made.to(device=layer.weight.device, dtype=layer.weight.dtype)
    with torch.no_grad():
        made.weight.copy_(layer.weight.reshape(made.weight.shape))
        if made.bias is not None:
            made.bias.copy_(layer.bias)
    return made


class WindowMaximum(nn.Module):
    """The maximum over every window of `size` (height, width), times `scale`: a global maximum, at every position."""

    def __init__(self, size: tuple[int, int], scale: float) -> None:
        super().__init__()
        self.size, self.scale = size, scale

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, C, H, W] to [B, C, H - height + 1, W - width + 1]."""
        return nn.functional.max_pool2d(maps, self.size, stride=1) * self.scale


class _LastMaps(nn.Module):
    """The coarsest maps of a backbone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """The last level of the pyramid, float [B, C, h, w]."""
        return self.backbone.pyramid(images)[-1]


def _body_and_layers(backbone: Backbone) -> tuple[nn.Module, dict[str, nn.Module]]:
    """The module that computes the maps, and the layers from there to the features, by name."""
    if isinstance(backbone, Plain) and backbone.any_size:
        do = "use it unchanged: global pooling accepts images of any size"
        raise ConfigError("this network needs no conversion", got="plain with global_pool", do=do)
    if isinstance(backbone, Plain):
        return nn.Sequential(*backbone.blocks), _named(backbone.dense) | {"dropout": backbone.dropout}
    if isinstance(backbone, Dense):
        return nn.Identity(), _named(backbone.dense) | {"dropout": backbone.dropout}
    if isinstance(backbone, Small | Tiny):
        maximum = WindowMaximum((1, 1), backbone.feature_scale)
        return _LastMaps(backbone), {"maximum": maximum, "dropout": backbone.dropout}
    raise ConfigError(
        "this network cannot be made fully convolutional",
        got=type(backbone).__name__,
        expected="plain, dense, small or tiny",
    )


def _named(stack: nn.Module) -> dict[str, nn.Module]:
    return dict(stack.named_children())


@torch.no_grad()
def _maps_of(body: nn.Module, normalize: nn.Module, size: Size) -> Size:
    """Channels, height and width of the maps of an image of the training size."""
    modes = [(module, module.training) for module in (*body.modules(), *normalize.modules())]
    weight = next((p for p in body.parameters()), torch.zeros(()))
    body.eval()
    normalize.eval()
    _, channels, height, width = body(normalize(weight.new_zeros(1, *size))).shape
    for module, training in modes:
        module.training = training
    return channels, height, width


def _converted(layer: nn.Module, size: Size) -> nn.Module:
    """A layer on flat features as a layer on maps of `size`."""
    if isinstance(layer, nn.Linear):
        return to_convolution(layer, size)
    if isinstance(layer, nn.BatchNorm1d):
        norm = nn.BatchNorm2d(layer.num_features, eps=layer.eps, momentum=layer.momentum)
        norm.load_state_dict(layer.state_dict())
        return norm.train(layer.training)
    if isinstance(layer, WindowMaximum):
        return WindowMaximum(size[1:], layer.scale)
    if isinstance(layer, nn.ReLU | nn.Dropout | nn.Identity):
        return layer
    raise ConfigError(
        "this layer cannot be made convolutional",
        got=type(layer).__name__,
        expected="dense layers, norms, activations, dropout",
    )
