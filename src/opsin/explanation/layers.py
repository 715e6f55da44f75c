"""The layers of a network in execution order: names, shapes, and outputs for a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opsin.errors import ConfigError, nearest

PASSING = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten)
"""Layers that do not change a prediction."""
ACTIVATIONS = ("ReLU", "ReLU6", "LeakyReLU", "SiLU", "GELU", "ELU", "Hardswish")
MAX_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer, or a block whose output is not that of its last layer (such as a sum).

    `name`: as in the table of layers, without `backbone.`. `module`: its full name in the network. `shape`: of its
    output without the batch, [C, h, w] for maps. `is_block`: it has layers inside. Of a layer that is used several
    times, the first use is meant.
    """

    name: str
    module: str
    kind: str
    shape: tuple[int, ...]
    is_block: bool = False

    @property
    def is_map(self) -> bool:
        """Whether it gives maps, with more than one position."""
        return len(self.shape) == 3 and self.shape[1] * self.shape[2] > 1


def layers_of(network: nn.Module, channels: int, height: int, width: int) -> list[Layer]:
    """The layers in the order in which they finish, found by passing one black image.

    Raises:
        ConfigError: the network does not take images of this shape.
    """
    copy = deepcopy(network).eval()
    found: list[Layer] = []
    device = next((tensor.device for tensor in copy.parameters()), None)
    with torch.no_grad(), watching(copy, found):
        copy(torch.zeros(1, channels, height, width, device=device))
    first: dict[str, Layer] = {}
    for layer in found:
        first.setdefault(layer.name, layer)
    return list(first.values())


@contextmanager
def watching(
    network: nn.Module, found: list[Layer], outputs: dict[str, Tensor] | None = None, wanted: Sequence[str] = ()
) -> Iterator[None]:
    """Append each layer that finishes to `found`; keep a copy of the output of each of `wanted` in `outputs`.

    The copy is taken immediately, before an in-place layer overwrites it; gradients pass through it.
    """
    last: list[Tensor] = []

    def note(name: str, module: nn.Module, output: object) -> None:
        if not isinstance(output, Tensor) or isinstance(module, PASSING):
            return
        is_block = next(module.children(), None) is not None
        empty = isinstance(module, nn.Sequential) and not is_block
        if empty or (is_block and last and output is last[0]):
            return
        last[:] = [output]
        layer = Layer(
            name=name.removeprefix("backbone."),
            module=name,
            kind=type(module).__name__,
            shape=tuple(output.shape[1:]),
            is_block=is_block,
        )
        found.append(layer)
        if outputs is not None and layer.name in wanted and layer.name not in outputs:
            outputs[layer.name] = output.clone()

    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_hook(lambda m, _, out, name=name: note(name, m, out)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def outputs_of(network: nn.Module, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Outputs of the layers `names` for preprocessed images float [B, C, H, W]: float [B, …] by name.

    The network should be in evaluation mode. Gradients are kept if enabled.
    """
    outputs: dict[str, Tensor] = {}
    with watching(network, [], outputs, names):
        network(images)
    return outputs


def find_layer(layers: Sequence[Layer], name: str) -> Layer:
    """The layer of this name, with or without `backbone.`, which must have channels.

    Raises:
        ConfigError: there is none, and the nearest name is given; or its output has no channels, such as
            the tokens of a transformer.
    """
    by_name = {layer.name: layer for layer in layers}
    bare = name.removeprefix("backbone.")
    if bare not in by_name:
        close = nearest(bare, by_name)
        do = f"did you mean `{close}`?" if close else "choose one of these"
        raise ConfigError(
            "the network has no such layer", where="--layer", got=name, expected=", ".join(by_name), do=do
        )
    found = by_name[bare]
    if len(found.shape) not in (1, 3):
        got, expected = f"{found.kind} of shape {list(found.shape)}", "maps [C, h, w], or channels [C]"
        raise ConfigError(
            "the output of the layer has no channels", where=f"--layer {name}", got=got, expected=expected
        )
    return found


def shown_layers(layers: Sequence[Layer]) -> list[Layer]:
    """A few informative layers: the last activation at each map size, from fine to coarse."""
    maps = [layer for layer in layers if layer.is_map and _in_backbone(layer)]
    active = [layer for layer in maps if layer.is_block or layer.kind in ACTIVATIONS]
    last = {layer.shape[1:]: layer for layer in active or maps}
    found = sorted(last.values(), key=lambda layer: -layer.shape[1] * layer.shape[2])
    if len(found) <= MAX_SHOWN:
        return found
    steps = [round(i * (len(found) - 1) / (MAX_SHOWN - 1)) for i in range(MAX_SHOWN)]
    return [found[i] for i in steps]


def last_maps(layers: Sequence[Layer]) -> Layer | None:
    """The last maps of the backbone, for Grad-CAM; None for a network without maps."""
    maps = [layer for layer in layers if layer.is_map and _in_backbone(layer)]
    return maps[-1] if maps else None


def _in_backbone(layer: Layer) -> bool:
    return layer.module.startswith("backbone.")
