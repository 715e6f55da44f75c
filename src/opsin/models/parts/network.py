"""A backbone with its heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from opsin.errors import ConfigError
from opsin.models.parts.backbone import Backbone


class Network(nn.Module):
    """Heads on the features of one backbone.

    Args:
        backbone: gives the features.
        heads: one module a named output, each float [B, num_features] to [B, K].
        channels, height, width: shape of the images that it is built for.
        learned_input: begin with a batch norm over each channel of the input, which learns the normalization
            instead of being given it.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, nn.Module],
        *,
        channels: int,
        height: int,
        width: int,
        learned_input: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.height, self.width = channels, height, width
        self.normalize: nn.Module = nn.BatchNorm2d(channels) if learned_input else nn.Identity()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs float [B, K] by the heads' names, of preprocessed images float [B, C, H, W].

        Raises:
            ConfigError: the images do not have the shape that the network is built for.
        """
        self._check(images)
        features = self.backbone(self.normalize(images))
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def init_from_data(self, images: Tensor) -> None:
        """Set data-dependent weights from preprocessed training images float [N, C, H, W]; a few hundred suffice.

        A learned input normalization starts from these images' statistics, then the backbone from what it gives.
        """
        if isinstance(self.normalize, nn.BatchNorm2d):
            variance, mean = torch.var_mean(images.float(), dim=(0, 2, 3))
            self.normalize.get_buffer("running_mean").copy_(mean)
            self.normalize.get_buffer("running_var").copy_(variance)
            scale = torch.rsqrt(variance + self.normalize.eps)
            images = (images - mean[:, None, None]) * scale[:, None, None]
        self.backbone.init_from_data(images)

    def _check(self, images: Tensor) -> None:
        """Refuse images of a shape that the network is not built for."""
        _, channels, height, width = images.shape
        fits = (height, width) == (self.height, self.width)
        if self.backbone.any_size:
            fits = min(height, width) >= self.backbone.min_side
        if not fits or channels != self.channels:
            sides = f"{self.height}x{self.width}"
            if self.backbone.any_size:
                sides = f"sides of at least {self.backbone.min_side}"
            raise ConfigError(
                "images do not have the shape that the network is built for",
                got=f"{channels}x{height}x{width}",
                expected=f"{self.channels} channels, {sides}",
                do="resize the images, or build the network for their size",
            )
