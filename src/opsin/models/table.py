"""A network as a table of layers: shapes, parameters, work; shapes come from the meta device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import prod

import torch
from rich.table import Table
from torch import Tensor, nn

from opsin.types import JsonDict


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer, in the order of the forward pass.

    `output_shape` leaves out the batch. `parameters` counts all stored numbers, also the running statistics of batch
    norm, as the courses do; `trainable` those that training changes by gradients. `multiply_adds` is the work of
    convolutions and dense layers on one image; that of other layers is left out as small.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class LayerTable:
    """All layers of a network for one shape of images, with totals.

    The totals count every number of the network once, also where a layer is used twice.
    """

    rows: tuple[LayerRow, ...]
    input_shape: tuple[int, int, int]
    parameters: int
    trainable: int
    multiply_adds: int

    def to_dict(self) -> JsonDict:
        """As plain JSON values; the rows are under `layers`."""
        totals = asdict(self)
        layers = [row | {"output_shape": list(row["output_shape"])} for row in totals.pop("rows")]
        return totals | {"input_shape": list(self.input_shape), "layers": layers}

    def __rich__(self) -> Table:
        """The table as rich prints it; `backbone.` is left out of the names."""
        table = Table(show_footer=True, title=f"input {_shape(self.input_shape)}")
        footers = ("total", "", "", *(f"{n:,}" for n in (self.parameters, self.trainable, self.multiply_adds)))
        headings = ("layer", "kind", "output", "parameters", "trainable", "mult-adds")
        for number, (heading, footer) in enumerate(zip(headings, footers, strict=True)):
            table.add_column(heading, footer, justify="left" if number < 2 else "right", overflow="fold")
        for row in self.rows:
            counts = (f"{n:,}" for n in (row.parameters, row.trainable, row.multiply_adds))
            name = row.name.removeprefix("backbone.")
            table.add_row(name, row.kind, _shape(row.output_shape), *counts)
        return table


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """All stored numbers of a module, and those that are trainable.

    The first count includes frozen parameters and the running statistics of batch norm, but not its step counter.
    """
    stored = sum(p.numel() for p in module.parameters()) + sum(
        buffer.numel() for buffer in module.buffers() if buffer.is_floating_point()
    )
    return stored, sum(p.numel() for p in module.parameters() if p.requires_grad)


def layer_table(network: nn.Module, channels: int, height: int, width: int) -> LayerTable:
    """The layers that one image float [1, channels, height, width] passes, in order.

    The network itself is neither run nor changed: a copy on the meta device is.

    Raises:
        ConfigError: the network does not accept images of this shape.
    """
    copy = deepcopy(network).to("meta").eval()
    rows: list[LayerRow] = []
    with torch.no_grad(), _recording(copy, rows):
        copy(torch.empty(1, channels, height, width, device="meta"))
    parameters, trainable = count_parameters(network)
    return LayerTable(
        rows=tuple(rows),
        input_shape=(channels, height, width),
        parameters=parameters,
        trainable=trainable,
        multiply_adds=sum(row.multiply_adds for row in rows),
    )


@contextmanager
def _recording(network: nn.Module, rows: list[LayerRow]) -> Iterator[None]:
    """Append a row for every call of a layer that has no layers inside."""
    handles = []
    for name, module in network.named_modules():
        if next(module.children(), None) is None and not isinstance(module, nn.Identity | nn.Sequential):

            def record(layer: nn.Module, _: object, output: Tensor, name: str = name) -> None:
                rows.append(_row(name, layer, output))

            handles.append(module.register_forward_hook(record))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _row(name: str, layer: nn.Module, output: Tensor) -> LayerRow:
    """The row of one call of `layer`, which gave `output` for a batch of one."""
    parameters, trainable = count_parameters(layer)
    return LayerRow(
        name=name,
        kind=type(layer).__name__,
        output_shape=tuple(output.shape[1:]),
        parameters=parameters,
        trainable=trainable,
        multiply_adds=_multiply_adds(layer, output),
    )


def _multiply_adds(layer: nn.Module, output: Tensor) -> int:
    """Products summed by a convolution or a dense layer: outputs times inputs per output."""
    if isinstance(layer, nn.Conv2d):
        return output.numel() * (layer.in_channels // layer.groups) * prod(layer.kernel_size)
    if isinstance(layer, nn.ConvTranspose2d):
        positions = output.numel() // prod(layer.stride)
        return positions * (layer.in_channels // layer.groups) * prod(layer.kernel_size)
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    return 0


def _shape(sides: tuple[int, ...]) -> str:
    """A shape as text: 3x32x32."""
    return "x".join(map(str, sides))
