"""Networks: names, descriptions and construction. Parts and architectures are in sub-packages.

opsin.models.names()                                    all architectures of Opsin, and those that are registered
opsin.models.build("resnet18", num_outputs=10, height=32, width=32)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from opsin.models.registry import ModelEntry

__all__ = ["build", "describe", "names"]


def names() -> list[str]:
    """Names that `model=` takes: Opsin's networks, then registered ones; any network of timm too, as "timm/NAME".

    >>> names()[:3]
    ['dense', 'plain', 'small']
    """
    from opsin import plugins
    from opsin.models.registry import ENTRIES, SEGMENTERS

    return [*ENTRIES, *SEGMENTERS, *plugins.names("models")]


def describe(name: str) -> ModelEntry:
    """The entry of a network: description, source, options with defaults, sources of weights.

    Raises:
        ConfigError: no such network.
    """
    from opsin.models.registry import get_entry

    return get_entry(name)


def build(
    name: str,
    *,
    num_outputs: int,
    channels: int = 3,
    height: int = 224,
    width: int = 224,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """A new classification network with random weights: float images [B, C, H, W] to `{"logits": float [B, K]}`.

    Args:
        name: the architecture.
        num_outputs: K.
        channels, height, width: shape of the images.
        seed: seed of the weights.
        options: its options, e.g. `filters=(32, 64)`.

    >>> import torch
    >>> build("lenet5", num_outputs=10, channels=1, height=28, width=28)(torch.zeros(2, 1, 28, 28))["logits"].shape
    torch.Size([2, 10])

    Raises:
        ConfigError: no such network, or an option it does not have.
    """
    from opsin.config import ModelConfig
    from opsin.models.building import build_with_heads
    from opsin.models.parts.layers import seeded
    from opsin.models.registry import ModelSpec, resolve_options

    options = resolve_options(name, ModelConfig(**options))
    spec = ModelSpec(name=name, channels=channels, height=height, width=width, options=options)
    with seeded(seed):
        return build_with_heads(spec, {"logits": num_outputs})
