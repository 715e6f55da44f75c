"""Opsin's network for small images, 28 to 96 pixels: accurate after few epochs, fast on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from opsin.config import require
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.layers import check_dropout, check_min_side, check_widths, frozen_scale_norm, unit_head

WHITEN_SIDE = 2
WHITEN_EPSILON = 5e-4
"""Added to the variances of the patches' principal components, so that flat directions are not blown up."""


@dataclass(frozen=True, kw_only=True)
class SmallOptions:
    """Options of the small-image network: the widths of its stages, and dropout before the logits."""

    filters: tuple[int, ...] = (32, 96, 192)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(len(self.filters) > 0, "filters", self.filters, "one width or more")
        check_widths("filters", self.filters)
        check_dropout(dropout=self.dropout)


class Whiten(nn.Conv2d):
    """A frozen convolution that decorrelates patches: both signs of each principal component, at unit variance.

    Until `init_from_data` it holds the signed pixels of the patch, which lose nothing.

    Source: Page, "How to train your ResNet 8: bag of tricks", 2019; Jordan, arXiv 2404.00498, section 3.2.
    """

    def __init__(self, channels: int, side: int = WHITEN_SIDE) -> None:
        size = channels * side * side
        super().__init__(channels, 2 * size, side, bias=False)
        with torch.no_grad():
            self._set(torch.eye(size))
        self.weight.requires_grad_(False)

    def _set(self, components: Tensor) -> None:
        """Take components float [size, size], one a row, and their negatives as filters."""
        self.weight.copy_(torch.cat([components, -components]).reshape(self.weight.shape))

    @torch.no_grad()
    def init_from_data(self, images: Tensor) -> None:
        """Set the filters from the covariance of all patches of images float [N, C, H, W]."""
        patches = nn.functional.unfold(images.double(), self.kernel_size).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(patches.T.cov())
        self._set((vectors / (values + WHITEN_EPSILON).sqrt()).T.flip(0))


class Stage(nn.Module):
    """Convolution - max pooling - norm - ReLU, then a residual convolution - norm - ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = frozen_scale_norm(outputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = frozen_scale_norm(outputs)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, inputs, H, W] to [B, outputs, H//2, W//2]."""
        maps = self.relu1(self.norm1(self.pool(self.conv1(maps))))
        output: Tensor = maps + self.relu2(self.norm2(self.conv2(maps)))
        return output


class Small(Backbone):
    """Whitened patches - ReLU - stages that halve the maps - the maximum of each map, scaled.

    The maximum over the map makes it independent of the image's size; the scale keeps the first logits small.
    """

    any_size = True
    feature_scale = 1 / 8

    def __init__(self, channels: int, height: int, width: int, options: SmallOptions) -> None:
        super().__init__()
        self.min_side = 2 ** len(options.filters) + WHITEN_SIDE - 1
        check_min_side("small", height, width, self.min_side)
        self.whiten = Whiten(channels)
        self.relu = nn.ReLU(inplace=True)
        widths = [self.whiten.out_channels, *options.filters]
        self.stages = nn.ModuleList(Stage(i, o) for i, o in pairwise(widths))
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        self.pyramid_channels = tuple(widths)
        self.num_features = widths[-1]

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The whitened maps, then the maps of each stage: sides H - 1, then halved by each stage."""
        levels = [self.relu(self.whiten(images))]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return levels

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features]: the scaled maximum of each of the coarsest maps."""
        features: Tensor = self.dropout(levels[-1].amax((2, 3)) * self.feature_scale)
        return features

    def init_from_data(self, images: Tensor) -> None:
        """Whiten the patches of training images float [N, C, H, W]; some hundred images are enough."""
        self.whiten.init_from_data(images)

    def head(self, num_outputs: int) -> nn.Module:
        """A linear head without bias, of unit gain on features of unit size."""
        return unit_head(self.num_features, num_outputs)
