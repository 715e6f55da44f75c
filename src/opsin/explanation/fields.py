"""Theoretical receptive fields: the pixels each position of each layer can see, traced through every operation.

Along each axis, position i of a map sees the pixels low[i] to high[i]. The image itself has low = high = i; each
operation computes the intervals of its output from those of its inputs, exactly, also for sums, skips and upsampling.
Padding continues the intervals beyond the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Axis:
    """Intervals of pixels along one axis: position i sees low[i] to high[i]; neighbours are `step` pixels apart."""

    low: Floats
    high: Floats
    step: float

    def at(self, first: NDArray[np.int64], last: NDArray[np.int64], step: float) -> Axis:
        """New positions, each seeing the old positions first[i] to last[i]; extrapolated outside the axis."""
        return Axis(self._reach(self.low, first), self._reach(self.high, last), step)

    def whole(self, size: int) -> Axis:
        """One position that sees everything, inside an image of `size` pixels."""
        low, high = max(0.0, float(self.low.min())), min(size - 1.0, float(self.high.max()))
        return Axis(np.array([low]), np.array([high]), self.step * len(self.low))

    def _reach(self, ends: Floats, index: NDArray[np.int64]) -> Floats:
        inside = np.clip(index, 0, len(ends) - 1)
        return ends[inside] + (index - inside) * self.step


Field = tuple[Axis, Axis]
"""Rows and columns."""


def theoretical_fields(network: nn.Module, channels: int, height: int, width: int) -> dict[str, Field | None]:
    """The receptive field of each layer in images of this shape, by name; None if unknown.

    Raises:
        ConfigError: the network does not accept images of this shape.
    """
    copy = deepcopy(network).eval()
    fields: dict[str, Field | None] = {}
    images = torch.zeros(1, channels, height, width)
    tracer = _Tracer(images)
    handles = []
    for name, module in copy.named_modules():

        def note(_: nn.Module, __: object, output: object, name: str = name) -> None:
            if isinstance(output, Tensor):
                fields.setdefault(name.removeprefix("backbone."), tracer.field(output))

        if name:
            handles.append(module.register_forward_hook(note))
    with torch.no_grad(), tracer:
        copy(images)
    return fields


def window_of(field: Field, row: int, column: int) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of what the unit at (row, column) can see, ends exclusive; positions are clipped."""
    rows, columns = field
    row, column = min(row, len(rows.low) - 1), min(column, len(columns.low) - 1)
    return (
        float(columns.low[column]),
        float(rows.low[row]),
        float(columns.high[column]) + 1,
        float(rows.high[row]) + 1,
    )


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the fields of all tensors through every operation; unknown operations have no field."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size = images.shape[-2:]
        self._kept: list[Tensor] = [images]  # so that no id is reused
        start = tuple(Axis(np.arange(n, dtype=np.float64), np.arange(n, dtype=np.float64), 1.0) for n in self.size)
        self._fields: dict[int, Field | None] = {id(images): (start[0], start[1])}

    def field(self, tensor: Tensor) -> Field | None:
        """The field of a tensor; None where it is not known."""
        return self._fields.get(id(tensor))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and id(leaf) in self._fields]
        if not inputs:
            return result
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        for output in outputs:
            self._kept.append(output)
            self._fields[id(output)] = self._after(func, args, kwargs or {}, inputs, output)
        return result

    def _after(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: list[Tensor], output: Tensor
    ) -> Field | None:
        known = [field for field in map(self.field, inputs) if field is not None]
        if len(known) < len(inputs):
            return None
        name = func.overloadpacket.__name__.removesuffix("_")
        if name in _RULES:
            return _RULES[name](known[0], _Call(func, args, kwargs), output)
        if not _spatial(output) or name in ("mean", "amax", "sum"):
            joined = _joined(known)
            return None if joined is None else self._reduced(joined, output)
        return _joined(known) if name in _EACH_PLACE and _matches(known, output) else None

    def _reduced(self, field: Field, output: Tensor) -> Field:
        """The field after a reduction: one position along each reduced axis."""
        kept = output.shape[-2:] if _spatial(output) else (1, 1)
        rows, columns = (
            axis if len(axis.low) == n and n > 1 else axis.whole(size)
            for axis, n, size in zip(field, kept, self.size, strict=True)
        )
        return rows, columns


class _Call:
    """The arguments of an operation, by name."""

    def __init__(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.values = {a.name: a.default_value for a in func._schema.arguments}
        names = [a.name for a in func._schema.arguments]
        self.values |= dict(zip(names, args, strict=False)) | dict(kwargs)

    def pair(self, name: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        """The last two of a setting that may be one number."""
        value = self.values.get(name)
        if value is None or value == []:
            return default or (0, 0)
        if isinstance(value, int):
            return value, value
        return (int(value[-2]), int(value[-1])) if len(value) > 1 else (int(value[0]), int(value[0]))


def _spatial(tensor: Tensor) -> bool:
    return tensor.ndim >= 4


def _matches(fields: Sequence[Field], output: Tensor) -> bool:
    """Whether every axis has as many positions as the output, or one."""
    return all(len(axis.low) in (1, n) for field in fields for axis, n in zip(field, output.shape[-2:], strict=True))


def _joined(fields: Sequence[Field]) -> Field | None:
    """The union of several fields, position by position; None if their sizes differ."""
    rows, columns = (_joined_axis(axes) for axes in zip(*fields, strict=True))
    return None if rows is None or columns is None else (rows, columns)


def _joined_axis(axes: Sequence[Axis]) -> Axis | None:
    sizes = {len(axis.low) for axis in axes} - {1}
    if len(sizes) > 1:
        return None
    finest = max(axes, key=lambda axis: len(axis.low))
    shape = finest.low.shape
    low = np.min([np.broadcast_to(axis.low, shape) for axis in axes], axis=0)
    high = np.max([np.broadcast_to(axis.high, shape) for axis in axes], axis=0)
    return Axis(low, high, finest.step)


Rule = Callable[[Field, _Call, Tensor], "Field | None"]


def _windows(field: Field, output: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Field:
    """Output position o sees the input positions o * stride - padding up to dilation * (kernel - 1) farther."""
    found = []
    for i, axis in enumerate(field):
        first = np.arange(output.shape[-2 + i]) * stride[i] - padding[i]
        found.append(axis.at(first, first + dilation[i] * (kernel[i] - 1), axis.step * stride[i]))
    return found[0], found[1]


def _convolution(field: Field, call: _Call, output: Tensor) -> Field | None:
    stride, padding, dilation = call.pair("stride"), call.pair("padding"), call.pair("dilation")
    kernel = tuple(call.values["weight"].shape[-2:])
    if not call.values["transposed"]:
        return _windows(field, output, kernel, stride, padding, dilation)
    found = []
    for i, axis in enumerate(field):
        end = np.arange(output.shape[-2 + i]) + padding[i]
        first = -((dilation[i] * (kernel[i] - 1) - end) // stride[i])  # rounded up
        found.append(axis.at(first, end // stride[i], axis.step / stride[i]))
    return found[0], found[1]


def _pooling(field: Field, call: _Call, output: Tensor) -> Field | None:
    kernel = call.pair("kernel_size")
    return _windows(
        field, output, kernel, call.pair("stride", kernel), call.pair("padding"), call.pair("dilation", (1, 1))
    )


def _adaptive(field: Field, call: _Call, output: Tensor) -> Field | None:
    found = []
    for axis, n in zip(field, output.shape[-2:], strict=True):
        o, size = np.arange(n), len(axis.low)
        found.append(axis.at(o * size // n, -(-(o + 1) * size // n) - 1, axis.step * size / n))
    return found[0], found[1]


def _nearest(field: Field, call: _Call, output: Tensor) -> Field | None:
    found = []
    for axis, n in zip(field, output.shape[-2:], strict=True):
        source = np.arange(n) * len(axis.low) // n
        found.append(axis.at(source, source, axis.step * len(axis.low) / n))
    return found[0], found[1]


def _bilinear(field: Field, call: _Call, output: Tensor) -> Field | None:
    found = []
    for axis, n in zip(field, output.shape[-2:], strict=True):
        size = len(axis.low)
        corners = call.values.get("align_corners") and n > 1
        ratio = (size - 1) / (n - 1) if corners else size / n
        source = np.arange(n) * ratio if corners else (np.arange(n) + 0.5) * ratio - 0.5
        source = np.clip(source, 0, size - 1)
        found.append(axis.at(np.floor(source).astype(int), np.ceil(source).astype(int), axis.step * ratio))
    return found[0], found[1]


def _padding(field: Field, call: _Call, output: Tensor) -> Field | None:
    """Padding by a constant: the axis is extrapolated."""
    pads = [*(call.values.get("pad") or call.values.get("padding") or ()), 0, 0, 0, 0]
    rows, columns = field
    i, j = np.arange(output.shape[-2]) - pads[2], np.arange(output.shape[-1]) - pads[0]
    return rows.at(i, i, rows.step), columns.at(j, j, columns.step)


def _replicated(field: Field, call: _Call, output: Tensor) -> Field | None:
    """Padding by the last row and column."""
    pads = call.values["padding"]
    found = []
    for axis, n, before in zip(field, output.shape[-2:], (pads[2], pads[0]), strict=True):
        source = np.clip(np.arange(n) - before, 0, len(axis.low) - 1)
        found.append(axis.at(source, source, axis.step))
    return found[0], found[1]


def _slice(field: Field, call: _Call, output: Tensor) -> Field | None:
    axes = list(field)
    values, dimensions = call.values, output.ndim
    place = values["dim"] % dimensions - (dimensions - 2)
    if not _spatial(output) or place < 0:
        return field
    axis, step = axes[place], values.get("step") or 1
    start = values.get("start") or 0
    source = np.arange(output.shape[-2 + place]) * step + (start if start >= 0 else start + len(axis.low))
    axes[place] = axis.at(source, source, axis.step * step)
    return axes[0], axes[1]


_RULES: Mapping[str, Rule] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
    "avg_pool3d": _pooling,
    "_adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "upsample_nearest2d": _nearest,
    "upsample_bilinear2d": _bilinear,
    "constant_pad_nd": _padding,
    "replication_pad2d": _replicated,
    "slice": _slice,
}
_EACH_PLACE_NAMES = """
relu hardtanh hardswish hardsigmoid silu gelu elu leaky_relu sigmoid tanh softplus add sub mul div pow sqrt rsqrt exp
clamp clamp_min clamp_max maximum minimum where native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm
native_dropout cat stack clone _to_copy detach alias view _unsafe_view unsqueeze squeeze contiguous expand split select
chunk
"""
_EACH_PLACE = frozenset(_EACH_PLACE_NAMES.split())
"""Operations that keep positions."""
