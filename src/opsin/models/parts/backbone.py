"""The backbone interface: images in, features out."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn

from opsin.errors import ConfigError

PROBE_SIDE = 256
"""Side of the test image for measuring the downscaling of each level of a backbone."""


class Backbone(nn.Module):
    """A network without its heads.

    Attributes:
        num_features: length of the feature vector of one image.
        pyramid_channels: channels of each map of `pyramid`, from fine to coarse; empty when there are no maps.
        any_size: whether images of other sizes than the one it was built for are accepted.
        min_side: shortest side of an image that leaves at least one pixel in every map.
    """

    num_features: int
    pyramid_channels: tuple[int, ...] = ()
    any_size: bool = False
    min_side: int = 1

    @property
    def sections(self) -> tuple[nn.Module, ...]:
        """The parts of the network in the order of the forward pass, the upper ones last; they contain every weight.

        Fine-tuning takes them from the last one down.
        """
        return tuple(self.children())

    def forward(self, images: Tensor) -> Tensor:
        """Features float [B, num_features] of preprocessed images float [B, C, H, W]: by default those of its maps.

        Raises:
            ConfigError: the network has no feature maps and does not override this method.
        """
        return self.vector(self.pyramid(images))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Feature maps float [B, C_i, H_i, W_i] of images float [B, C, H, W], from fine to coarse.

        Raises:
            ConfigError: the network has no feature maps.
        """
        raise ConfigError(
            "this network has no feature maps", got=type(self).__name__, do="choose a convolutional network"
        )

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features] from the result of `pyramid`: the same as `forward`, without a second pass.

        Raises:
            ConfigError: the network has no feature maps.
        """
        raise ConfigError(
            "this network has no feature maps", got=type(self).__name__, do="choose a convolutional network"
        )

    def init_from_data(self, images: Tensor) -> None:
        """Set data-dependent weights from preprocessed training images float [N, C, H, W]. By default: nothing."""

    def head(self, num_outputs: int) -> nn.Module:
        """A linear head on the features, initialised as suits this network: float [B, F] to float [B, num_outputs]."""
        return nn.Linear(self.num_features, num_outputs)


def level_factors(backbone: Backbone, channels: int) -> list[int]:
    """Downscaling of the finest map against the image, then of each map against the one before.

    Raises:
        ConfigError: the backbone has no feature maps.
    """
    if not backbone.pyramid_channels:
        raise ConfigError(
            "this network has no feature maps, which this task needs",
            got=type(backbone).__name__,
            do="choose a convolutional network: --model unet",
        )
    probe = deepcopy(backbone).to("meta").eval()
    with torch.no_grad():
        maps = probe.pyramid(torch.empty(1, channels, PROBE_SIDE, PROBE_SIDE, device="meta"))
    sides = [PROBE_SIDE, *(level.shape[2] for level in maps)]
    return [max(1, round(larger / smaller)) for larger, smaller in pairwise(sides)]
