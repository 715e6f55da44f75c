"""Opsin's network for small drawings, such as digits: few filters, thousands of images per second on one core."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from opsin.config import require
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.layers import check_dropout, check_min_side, check_widths, frozen_scale_norm, unit_head


@dataclass(frozen=True, kw_only=True)
class TinyOptions:
    """Options: filters of the first convolution and of each level, and dropout before the logits."""

    filters: tuple[int, ...] = (16, 32, 64)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(len(self.filters) > 1, "filters", self.filters, "two widths or more")
        check_widths("filters", self.filters)
        check_dropout(dropout=self.dropout)


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution - norm - ReLU, which keeps the size of its maps."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), frozen_scale_norm(outputs), nn.ReLU(inplace=True)
    )


class Tiny(Backbone):
    """5x5 convolution - max pooling - norm - ReLU; convolutions with pooling between; a residual one; global maximum.

    The wide first filters see whole strokes; immediate pooling quarters the work of all later layers.
    """

    any_size = True
    feature_scale = 1 / 4

    def __init__(self, channels: int, height: int, width: int, options: TinyOptions) -> None:
        super().__init__()
        first, *levels = options.filters
        self.min_side = 2 ** len(levels)
        check_min_side("tiny", height, width, self.min_side)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, first, 5, padding=2, bias=False),
            nn.MaxPool2d(2),
            frozen_scale_norm(first),
            nn.ReLU(inplace=True),
        )
        self.levels = nn.ModuleList(_convolution(inputs, outputs) for inputs, outputs in pairwise(options.filters))
        self.pool = nn.MaxPool2d(2)
        self.residual = _convolution(levels[-1], levels[-1])
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        self.pyramid_channels = tuple(levels)
        self.num_features = levels[-1]

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The maps of each level: sides H // 2, then halved from level to level."""
        maps = [self.levels[0](self.stem(images))]
        for level in self.levels[1:]:
            maps.append(level(self.pool(maps[-1])))
        maps[-1] = maps[-1] + self.residual(maps[-1])
        return maps

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features]: the scaled maximum of each of the coarsest maps."""
        features: Tensor = self.dropout(levels[-1].amax((2, 3)) * self.feature_scale)
        return features

    def head(self, num_outputs: int) -> nn.Module:
        """A linear head without bias, of unit gain on features of unit size."""
        return unit_head(self.num_features, num_outputs)
