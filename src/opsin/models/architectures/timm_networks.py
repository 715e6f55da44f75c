"""Any network of timm by name, with Opsin's interface.

Source: Wightman, "PyTorch image models", https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from opsin.errors import ConfigError
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.layers import check_dropout, check_min_side
from opsin.types import JsonDict

PREFIX = "timm/"
MIN_SIDE = 32
"""Stride of nearly all of timm's networks, so that the coarsest maps have a pixel."""


@dataclass(frozen=True, kw_only=True)
class TimmOptions:
    """The one option that all of timm's networks have: dropout before the logits."""

    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(dropout=self.dropout)


def timm_name(name: str) -> str | None:
    """The name in timm of `timm/NAME` or of a bare NAME; None where timm has no such network."""
    bare = name.removeprefix(PREFIX)
    return bare if timm.is_model(bare) else None


def timm_facts(name: str) -> JsonDict:
    """timm's facts of a network: input size, mean, standard deviation, name of the classifier."""
    config: Any = timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    return dict(config.to_dict())


class TimmBackbone(Backbone):
    """A network of timm without its classifier.

    Convolutional ones have a pyramid: the last maps of each size; the coarsest give the features.

    Args:
        name: name in timm.
        channels, height, width: shape of the images.
        options: the options of the network.
    """

    def __init__(self, name: str, channels: int, height: int, width: int, options: TimmOptions) -> None:
        super().__init__()
        sizes: JsonDict = {}
        fixed = timm.get_pretrained_cfg(name)
        if fixed is not None and fixed.fixed_input_size:
            sizes["img_size"] = (height, width)
        model: Any
        try:
            model = timm.create_model(name, num_classes=0, in_chans=channels, **sizes)
        except (RuntimeError, TypeError, AssertionError, ValueError) as error:
            got = f"{name}, {channels}x{height}x{width}: {error}"
            raise ConfigError("timm cannot build this network", got=got, do="try its own input size") from error
        self.model = model
        self.any_size = not sizes
        self.min_side = MIN_SIDE if self.any_size else 1
        check_min_side(PREFIX + name, height, width, self.min_side)
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        self.num_features = int(model.head_hidden_size)
        self.pyramid_channels = _pyramid_channels(model, channels, height, width) if self.any_size else ()

    @property
    def sections(self) -> tuple[nn.Module, ...]:
        """timm's own parts in their order, lists and sequences of parts opened once."""
        parts: list[nn.Module] = []
        for part in self.model.children():
            opened = list(part.children()) if isinstance(part, nn.Sequential | nn.ModuleList) else [part]
            parts += [module for module in opened if next(module.parameters(), None) is not None]
        return tuple(parts)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """The last maps of each size, from fine to coarse.

        Raises:
            ConfigError: the network has no maps, e.g. a transformer.
        """
        if not self.pyramid_channels:
            return super().pyramid(images)
        return _levels(self.model, images)

    def vector(self, levels: list[Tensor]) -> Tensor:
        """Features float [B, num_features] by timm's own pooling."""
        if not self.pyramid_channels:
            return super().vector(levels)
        features: Tensor = self.dropout(self.model.forward_head(levels[-1], pre_logits=True))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Features float [B, num_features] of images float [B, C, H, W]."""
        maps = self.model.forward_features(images)
        features: Tensor = self.dropout(self.model.forward_head(maps, pre_logits=True))
        return features


def _levels(model: Any, images: Tensor) -> list[Tensor]:
    """The last maps of each size; the coarsest are the input of timm's head."""
    last, maps = model.forward_intermediates(images)
    by_size = {level.shape[2]: level for level in maps if level.shape[2] > last.shape[2]}
    return [*by_size.values(), last]


def _pyramid_channels(model: Any, channels: int, height: int, width: int) -> tuple[int, ...]:
    """Channels of each level, without computing one; empty if the network has no maps [B, C, H, W]."""
    if not hasattr(model, "forward_intermediates"):
        return ()
    probe = deepcopy(model).to("meta").eval()
    with torch.no_grad():
        last, maps = probe.forward_intermediates(torch.empty(1, channels, height, width, device="meta"))
    whole = all(level.ndim == 4 for level in (last, *maps))
    if not whole or last.shape[2:] != maps[-1].shape[2:]:
        return ()
    by_size = {level.shape[2]: level.shape[1] for level in maps if level.shape[2] > last.shape[2]}
    return (*by_size.values(), int(last.shape[1]))
