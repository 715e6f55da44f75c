"""Weights saved by Keras, in Opsin's names and axes.

Keras' axes are [height, width, inputs, outputs] for convolutions, [inputs, outputs] for dense layers; torch's are
[outputs, inputs, height, width] and [outputs, inputs]. A dense layer after flattened maps counts its inputs row by row
with maps last; Opsin has maps first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from opsin.errors import TensorFileError
from opsin.io.hdf5 import KerasLayers
from opsin.models.architectures.mobile import MOBILENET_V2
from opsin.models.parts.convolutions import KERAS_EPSILON
from opsin.models.weights.naming import DENSE, HEAD, VGG_COUNTS, xception_blocks
from opsin.types import JsonDict

ClassName = Literal["conv2d", "depthwise_conv2d", "separable_conv2d", "batch_normalization", "dense"]
Layer = tuple[str, str, ClassName]
"""Our name, Keras' name, Keras' class."""
Layers = Iterator[Layer]
FLATTENED = {"vgg16": {DENSE[0]: (7, 7)}}
"""Dense layers on flattened maps, with the rows and columns of those."""


def _conv_norm(ours: str, conv: str, norm: str, kind: ClassName = "conv2d") -> Layers:
    yield f"{ours}.conv", conv, kind
    yield f"{ours}.norm", norm, "batch_normalization"


def _vgg16() -> Layers:
    for stage, count in enumerate(VGG_COUNTS):
        for number in range(count):
            yield f"stages.{stage}.{2 * number}", f"block{stage + 1}_conv{number + 1}", "conv2d"
    for ours, theirs in zip((*DENSE, HEAD), ("fc1", "fc2", "predictions"), strict=True):
        yield ours, theirs, "dense"


def _resnet50() -> Layers:
    """The shortcut's layers stand before those of the last convolution, as in Keras' order of layers."""
    yield from _conv_norm("stem", "conv1_conv", "conv1_bn")
    for stage, count in enumerate((3, 4, 6, 3)):
        for repeat in range(count):
            ours, theirs = f"stages.{stage}.{repeat}", f"conv{stage + 2}_block{repeat + 1}"
            for at in (0, 1):
                name = f"{theirs}_{at + 1}"
                yield from _conv_norm(f"{ours}.convolutions.{at}", f"{name}_conv", f"{name}_bn")
            if repeat == 0:
                yield from _conv_norm(f"{ours}.shortcut", f"{theirs}_0_conv", f"{theirs}_0_bn")
            yield from _conv_norm(f"{ours}.convolutions.2", f"{theirs}_3_conv", f"{theirs}_3_bn")
    yield HEAD, "predictions", "dense"


def _mobilenet_v2() -> Layers:
    yield from _conv_norm("stem", "Conv1", "bn_Conv1")
    number = 0
    for stage in MOBILENET_V2:
        for _ in range(stage.count):
            ours, theirs = f"bottlenecks.{number}", f"block_{number}" if number else "expanded_conv"
            if stage.expand > 1:
                yield from _conv_norm(f"{ours}.expand", f"{theirs}_expand", f"{theirs}_expand_BN")
            name = f"{theirs}_depthwise"
            yield from _conv_norm(f"{ours}.depthwise", name, f"{name}_BN", "depthwise_conv2d")
            yield from _conv_norm(f"{ours}.project", f"{theirs}_project", f"{theirs}_project_BN")
            number += 1
    yield from _conv_norm("top", "Conv_1", "Conv_1_bn")
    yield HEAD, "predictions", "dense"


def _xception() -> Layers:
    """Shortcuts have names that Keras counts through the whole session: they are matched by their order."""
    for at in (0, 1):
        yield from _conv_norm(f"stem.{at}", f"block1_conv{at + 1}", f"block1_conv{at + 1}_bn")
    shortcuts = 0
    for number, (ours, count, shortcut) in enumerate(xception_blocks(), start=2):
        for at in range(count):
            yield from _separable(f"{ours}.convolutions.{at}", f"block{number}_sepconv{at + 1}")
        if shortcut:
            count_text = f"_{shortcuts}" if shortcuts else ""
            yield from _conv_norm(f"{ours}.shortcut", f"conv2d{count_text}", f"batch_normalization{count_text}")
            shortcuts += 1
    yield from _separable("top.0", "block14_sepconv1")
    yield from _separable("top.2", "block14_sepconv2")
    yield HEAD, "predictions", "dense"


def _separable(ours: str, theirs: str) -> Layers:
    yield ours, theirs, "separable_conv2d"
    yield f"{ours}.norm", f"{theirs}_bn", "batch_normalization"


LAYERS: dict[str, Callable[[], Layers]] = {
    "vgg16": _vgg16,
    "resnet50": _resnet50,
    "mobilenet_v2": _mobilenet_v2,
    "xception": _xception,
}
OPTIONS: dict[str, JsonDict] = {
    "vgg16": {},
    "resnet50": {"stride_in": "first", "biases": True, "epsilon": 1.001e-5},
    "mobilenet_v2": {"padding": "same", "epsilon": KERAS_EPSILON},
    "xception": {"padding": "same", "epsilon": KERAS_EPSILON},
}
"""Options that match Keras' networks where they differ from torchvision's and timm's."""


def from_keras(found: KerasLayers, model: str, file: str) -> tuple[dict[str, Tensor], JsonDict]:
    """Tensors under Opsin's names, and the options that the network needs with them.

    Unknown layers keep their names, and missing ones are not reported: the caller refuses both.

    Raises:
        TensorFileError: Keras has no such network, or a layer has other arrays than its kind.
    """
    if model not in LAYERS:
        expected = ", ".join(LAYERS)
        raise TensorFileError(f"Keras' names of `{model}` are unknown", where=file, got=model, expected=expected)
    layers = list(LAYERS[model]())
    matched = _by_class(found.layers, layers) if found.by_class else _by_name(found.layers, layers)
    tensors: dict[str, Tensor] = {}
    for ours, theirs, kind in layers:
        if ours in matched:
            grid = FLATTENED.get(model, {}).get(ours)
            tensors |= _converted(ours, kind, found.layers[matched[ours]], grid, where=f"{file}: {theirs}")
    unknown = set(found.layers) - set(matched.values())
    tensors |= {f"{name}.{at}": array for name in unknown for at, array in enumerate(found.layers[name])}
    options = dict(OPTIONS[model])
    if model == "vgg16" and not any(name.startswith(DENSE) for name in tensors):
        options["dense"] = ()  # a file without the top layers
    return tensors, options


def _by_class(found: Mapping[str, object], layers: list[Layer]) -> dict[str, str]:
    """Keras 3's names for our layers: classes, counted in the order of the model."""
    counts: Counter[str] = Counter()
    names = {}
    for ours, _, kind in layers:
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        if name in found:
            names[ours] = name
    return names


def _by_name(found: Mapping[str, tuple[Tensor, ...]], layers: list[Layer]) -> dict[str, str]:
    """Layers of the same name; those left over, in their order among layers with arrays of the same ranks."""
    names = {ours: theirs for ours, theirs, _ in layers if theirs in found}
    left = [name for name in found if name not in names.values()]
    for ours, _, kind in layers:
        if ours not in names:
            same = next((name for name in left if _kind(found[name]) == RANKS[kind]), None)
            if same is not None:
                names[ours] = same
                left.remove(same)
    return names


RANKS: dict[ClassName, str] = {
    "conv2d": "filters",
    "depthwise_conv2d": "filters",
    "separable_conv2d": "separable",
    "batch_normalization": "norm",
    "dense": "dense",
}


def _kind(arrays: tuple[Tensor, ...]) -> str:
    """The kind of a layer by the ranks of its arrays."""
    ranks = [array.ndim for array in arrays]
    if ranks[:2] == [4, 4]:
        return "separable"
    return {4: "filters", 2: "dense", 1: "norm"}.get(ranks[0], "unknown")


def _converted(
    ours: str, kind: ClassName, arrays: tuple[Tensor, ...], grid: tuple[int, int] | None, *, where: str
) -> dict[str, Tensor]:
    """One layer's tensors under Opsin's names, in torch's axes."""
    if _kind(arrays) != RANKS[kind]:
        got = ", ".join(str(list(array.shape)) for array in arrays)
        raise TensorFileError("a layer has unexpected arrays", where=where, got=got, expected=kind)
    if kind == "batch_normalization":
        names = ("weight", "bias", "running_mean", "running_var")
        return {f"{ours}.{name}": array for name, array in zip(names, arrays, strict=False)}
    if kind == "separable_conv2d":
        return {
            f"{ours}.depthwise.weight": _depthwise(arrays[0]),
            f"{ours}.pointwise.weight": arrays[1].permute(3, 2, 0, 1).contiguous(),
        }
    if kind == "dense":
        weight = _dense(arrays[0], grid)
    elif kind == "depthwise_conv2d":
        weight = _depthwise(arrays[0])
    else:
        weight = arrays[0].permute(3, 2, 0, 1).contiguous()
    return {f"{ours}.weight": weight} | {f"{ours}.bias": bias for bias in arrays[1:2]}


def _depthwise(kernel: Tensor) -> Tensor:
    """[height, width, maps, filters of each] to [maps * filters of each, 1, height, width]."""
    height, width, maps, multiplier = kernel.shape
    return kernel.permute(2, 3, 0, 1).reshape(maps * multiplier, 1, height, width)


def _dense(kernel: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """[inputs, outputs] to [outputs, inputs]; inputs that were maps on a grid are put in torch's order."""
    inputs, outputs = kernel.shape
    if grid is None or inputs % (grid[0] * grid[1]):
        return kernel.T.contiguous()
    maps = inputs // (grid[0] * grid[1])
    return torch.permute(kernel.reshape(*grid, maps, outputs), (3, 2, 0, 1)).reshape(outputs, inputs)
