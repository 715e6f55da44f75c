"""Planner: a network from rows of words; shapes, parameters and memory as one types. Nothing is computed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from starlette.requests import Request
from starlette.responses import Response
from torch import nn

from opsin.models.table import LayerTable, layer_table
from opsin.planning.memory import layer_numbers
from opsin.server.refusal import RequestError
from opsin.studio.pages import page, whole

EXAMPLE = "conv 32 3\nconv 32 3\npool 2\nconv 64 3\nnorm\npool 2\nflatten\ndropout 0.5\ndense 128\ndense 10"
MAX_ROWS = 200
MAX_TEXT = 10_000
MAX_NODES = 65_536
MAX_SIDE_PX = 4096
MAX_WEIGHTS = 1 << 33
BYTES = 4
"""Of a number: weights, gradients, optimizer states and activations are float32."""
COPIES = 4
"""Of each trainable number while Adam trains it: the weight, its gradient, two moments."""
WORDS = {
    "conv": "filters, side of the kernel; stride N, valid",
    "pool": "side; halves the maps by default",
    "norm": "batch normalization",
    "relu": "conv and dense rows have one already, but for the last dense row",
    "dropout": "share",
    "global": "the mean of each map",
    "flatten": "maps to a row of numbers",
    "dense": "nodes",
}


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """A network that was written down: its layers, and bytes for a batch of `batch` images."""

    table: LayerTable
    batch: int

    @property
    def weight_bytes(self) -> int:
        return self.table.parameters * BYTES

    @property
    def activation_bytes(self) -> int:
        """Outputs of all layers for the batch: what the backward pass looks back at."""
        return BYTES * self.batch * layer_numbers(self.table)

    @property
    def training_bytes(self) -> int:
        """Weights, gradients, Adam's moments and activations; what Python and torch take comes on top."""
        return COPIES * BYTES * self.table.trainable + self.activation_bytes


def show(request: Request) -> Response:
    """The page."""
    return page(request, "planner.html", example=EXAMPLE, words=WORDS)


def result(request: Request) -> Response:
    """The table of what is written."""
    query = request.query_params
    channels = whole(query, "channels", 3, low=1, high=64)
    height, width = (whole(query, side, 32, low=1, high=MAX_SIDE_PX) for side in ("height", "width"))
    batch = whole(query, "batch", 128, low=1, high=65_536)
    sketch = Sketch(table=sketched(query.get("rows", ""), (channels, height, width)), batch=batch)
    return page(request, "planner_result.html", sketch=sketch, table=sketch.table)


def sketched(text: str, shape: tuple[int, int, int]) -> LayerTable:
    """The layers that the rows of a text describe, for images (channels, height, width).

    >>> sketched("conv 8 3\\nflatten\\ndense 10", (1, 8, 8)).parameters
    5210

    Raises:
        RequestError: 400, naming the row that is not understood, or does not fit.
    """
    if len(text) > MAX_TEXT:
        raise RequestError(400, "too much text", got=len(text), expected=f"at most {MAX_TEXT:,} letters")
    rows = [line.split("#")[0].split() for line in text.lower().splitlines()]
    given = [(number, words) for number, words in enumerate(rows, 1) if words]
    if not given or len(given) > MAX_ROWS:
        raise RequestError(400, "no rows" if not given else "too many rows", expected=f"1 to {MAX_ROWS} rows")
    last_dense = max((number for number, words in given if words[0] == "dense"), default=0)
    with torch.device("meta"):
        layers: list[nn.Module] = []
        seen: tuple[int, ...] = shape
        for number, words in given:
            added, seen = _added(number, words, seen, last=number == last_dense)
            layers += added
        return layer_table(nn.Sequential(*layers), *shape)


def _added(
    number: int, words: list[str], seen: tuple[int, ...], *, last: bool
) -> tuple[list[nn.Module], tuple[int, ...]]:
    """The layers of one row, after maps or numbers of shape `seen`, and the shape that they leave."""
    try:
        layers = _layers(words, seen, last=last)
        with torch.no_grad():
            found = nn.Sequential(*layers).eval()(torch.empty(1, *seen))
    except (ValueError, RuntimeError, IndexError) as error:
        got = " ".join(words)[:80]
        why = str(error).splitlines()[0][:200]
        raise RequestError(400, "a row that does not fit", where=f"row {number}", got=got, expected=why) from error
    if sum(p.numel() for layer in layers for p in layer.parameters()) > MAX_WEIGHTS:
        raise RequestError(400, "more weights than any machine holds", where=f"row {number}")
    return layers, tuple(found.shape[1:])


def _layers(words: list[str], seen: tuple[int, ...], *, last: bool) -> list[nn.Module]:
    kind, rest = words[0], words[1:]
    if kind not in WORDS:
        raise ValueError(f"one of {', '.join(WORDS)}")
    if kind in ("conv", "pool", "global") and len(seen) != 3:
        raise ValueError(f"`{kind}` needs maps; they were flattened before")
    if kind == "conv":
        return _conv(rest, seen[0])
    if kind == "pool":
        return [nn.MaxPool2d(_whole(rest, 0, 2, most=64))]
    if kind == "dense":
        flat: list[nn.Module] = [nn.Flatten()] if len(seen) > 1 else []
        dense = nn.Linear(prod(seen), _whole(rest, 0, None, most=MAX_NODES))
        return [*flat, dense, *([] if last else [nn.ReLU()])]
    simple: dict[str, Any] = {
        "norm": lambda: nn.BatchNorm2d(seen[0]) if len(seen) == 3 else nn.BatchNorm1d(seen[0]),
        "relu": nn.ReLU,
        "dropout": lambda: nn.Dropout(float(rest[0]) if rest else 0.5),
        "global": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "flatten": nn.Flatten,
    }
    return [simple[kind]()]


def _conv(rest: list[str], channels: int) -> list[nn.Module]:
    filters = _whole(rest, 0, None, most=MAX_NODES)
    sized = len(rest) > 1 and re.fullmatch(r"(\d{1,2})(?:x\1)?", rest[1])
    side = int(sized[1]) if sized else 3
    if not 1 <= side <= 31:
        raise ValueError("a kernel of 1 to 31 pixels")
    stride = _whole(rest, rest.index("stride") + 1, 1, most=16) if "stride" in rest else 1
    padding = 0 if "valid" in rest else side // 2
    return [nn.Conv2d(channels, filters, side, stride=stride, padding=padding), nn.ReLU()]


def _whole(words: list[str], place: int, default: int | None, *, most: int) -> int:
    if place >= len(words):
        if default is None:
            raise ValueError("a number after it")
        return default
    if not words[place].isdecimal() or not 1 <= int(words[place][:9]) <= most:
        raise ValueError(f"a whole number of 1 to {most:,}")
    return int(words[place])
