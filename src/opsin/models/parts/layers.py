"""Building blocks that several networks share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol, TypeVar

import torch
from torch import nn

from opsin.config import require
from opsin.errors import ConfigError

AnyModule = TypeVar("AnyModule", bound=nn.Module)
LARGEST_WIDTH = 65_536
"""Largest number of filters or nodes of one layer."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make the weights of networks built inside a function of `seed`; the global random state is restored.

    Networks are built on the CPU, so that weights do not depend on the device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def keras_init(module: AnyModule) -> AnyModule:
    """Start every convolution and dense layer inside `module` as Keras does: Glorot uniform weights, zero biases.

    Weights are uniform in ±sqrt(6 / (fan_in + fan_out)), fans counted over the whole filter.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010,
        equation 16.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def dense_stack(num_inputs: int, nodes: Sequence[int], *, batch_norm: bool, dropout: float) -> nn.Sequential:
    """Hidden dense layers, each [dropout] - linear - [batch norm] - ReLU: float [B, num_inputs] to [B, nodes[-1]].

    Without nodes it is empty and passes its input through.
    """
    stack = nn.Sequential()
    for number, (inputs, outputs) in enumerate(pairwise([num_inputs, *nodes]), start=1):
        if dropout > 0:
            stack.add_module(f"dropout{number}", nn.Dropout(dropout))
        stack.add_module(f"linear{number}", nn.Linear(inputs, outputs))
        if batch_norm:
            stack.add_module(f"norm{number}", nn.BatchNorm1d(outputs))
        stack.add_module(f"relu{number}", nn.ReLU(inplace=True))
    return stack


def frozen_scale_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm that learns biases only: the next convolution learns the scales."""
    norm = nn.BatchNorm2d(channels)
    norm.weight.requires_grad_(False)
    return norm


def unit_head(num_features: int, num_outputs: int) -> nn.Linear:
    """A linear head without bias, of unit gain on features of unit size: float [B, F] to [B, num_outputs]."""
    head = nn.Linear(num_features, num_outputs, bias=False)
    nn.init.normal_(head.weight, std=num_features**-0.5)
    return head


def check_widths(name: str, widths: Sequence[int]) -> None:
    """Refuse invalid numbers of filters or nodes.

    Raises:
        ConfigError: one is below 1 or above `LARGEST_WIDTH`.
    """
    require(
        all(1 <= width <= LARGEST_WIDTH for width in widths), name, list(widths), f"numbers of 1 to {LARGEST_WIDTH}"
    )


def check_dropout(**shares: float) -> None:
    """Refuse shares of dropped activations outside 0 <= x < 1.

    Raises:
        ConfigError: one is outside; it is named by its keyword.
    """
    for name, share in shares.items():
        require(0 <= share < 1, name, share, "0 <= x < 1")


SMALLEST_SIDES = {"plain": 8, "tiny": 4, "dense": 1}
"""Shortest side in pixels of a few networks at their default settings, best network first."""


def smallest_side(num_halvings: int) -> int:
    """The shortest side, in pixels, of which each of a network's padded halvings still finds two pixels to halve.

    >>> smallest_side(3), smallest_side(5)
    (5, 17)
    """
    return (1 << (num_halvings - 1)) + 1


class Downsampling(Protocol):
    """A network that halves its maps: `min_side` is the shortest side in pixels that it takes."""

    min_side: int


DownsamplingT = TypeVar("DownsamplingT", bound=Downsampling)


def large_enough(name: str, network: DownsamplingT, height: int, width: int) -> DownsamplingT:
    """The network `name`, whose stem has a small form, if images of `height` x `width` pixels are large enough for it.

    Raises:
        ConfigError: they are not.
    """
    check_min_side(name, height, width, network.min_side, way="take --stem small")
    return network


def check_min_side(name: str, height: int, width: int, min_side: int, *, way: str = "take fewer layers") -> None:
    """Refuse an input that a network's downsampling would reduce to nothing.

    Args:
        name: of the network.
        height, width: of the images.
        min_side: shortest side that it takes.
        way: how the network itself would take smaller images.

    Raises:
        ConfigError: a side is shorter than `min_side`.
    """
    side = min(height, width)
    if side < min_side:
        fitting = [other for other, smallest in SMALLEST_SIDES.items() if smallest <= side and other != name]
        raise ConfigError(
            f"images are too small for network `{name}`",
            got=f"{height}x{width}",
            expected=f"sides of at least {min_side} pixels",
            do=f"set --input-size to {min_side} or more, {way}, or --model {' or '.join(fitting)}",
        )
