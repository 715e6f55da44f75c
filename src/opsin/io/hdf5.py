"""Weights that Keras saved as HDF5: layers with their arrays, in Keras' order, and nothing else of the file.

Two layouts are read. The older one (`.h5`, as Keras' `applications` download): groups by the layers' own names, their
order and the order of their arrays in attributes. The one of Keras 3 (`.weights.h5`): groups by the layers' classes,
counted (`conv2d`, `conv2d_1`, …), each with `vars/0`, `vars/1`, …

Links to other files, virtual and external arrays are refused, and so are arrays that claim more than the file holds.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from opsin.errors import TensorFileError
from opsin.io.files import PathLike
from opsin.io.gate import check_size, read_bytes, refusing

MAX_FILE_BYTES = 4 * 2**30
MAX_LAYERS = 10_000
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class KerasLayers:
    """Layers that have weights.

    `layers` holds the arrays of each layer by its name, float32 in Keras' axes, in the order of the model (older
    layout) or of the names. `by_class`: names are classes with a count, as Keras 3 writes them, not the layers' own.
    """

    layers: dict[str, tuple[Tensor, ...]]
    by_class: bool


def read_keras_layers(path: PathLike, max_bytes: int = MAX_FILE_BYTES) -> KerasLayers:
    """The layers of a file of weights, or of a whole model, that Keras saved as HDF5.

    Raises:
        TensorFileError: not HDF5, not Keras' layout, links or compressed arrays, or damaged.
    """
    data = read_bytes(path, TensorFileError, max_bytes)
    with refusing(TensorFileError, path, "not a readable HDF5 file of Keras' weights"):
        if not data.startswith(HDF5_MAGIC):
            raise ValueError("expected HDF5")
        with h5py.File(io.BytesIO(data), "r") as file:
            reader = _Reader(budget=len(data))
            root = reader.group(file, "model_weights") if "model_weights" in file else file
            if "layer_names" in root.attrs:
                found = KerasLayers(layers=reader.named(root), by_class=False)
            else:
                found = KerasLayers(layers=reader.counted(root), by_class=True)
    check_size(len(found.layers), MAX_LAYERS, path, TensorFileError)
    return found


class _Reader:
    """Reads arrays until their sum reaches the size of the file.

    Args:
        budget: bytes that all arrays together may have.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget

    def group(self, parent: Any, name: str) -> Any:
        """A group or array inside `parent`, reached without leaving the file."""
        for part in name.split("/"):
            if not isinstance(parent.get(part, getlink=True), h5py.HardLink):
                raise ValueError(f"`{name}` is missing, or a link")
            parent = parent[part]
        return parent

    def array(self, found: Any, name: str) -> Tensor:
        """One array as float32."""
        if not isinstance(found, h5py.Dataset) or found.dtype.kind != "f":
            raise TypeError(f"`{name}` is not an array of numbers")
        if found.is_virtual or found.external or found.compression is not None:
            raise ValueError(f"`{name}` is virtual, external or compressed")
        self.budget -= found.size * found.dtype.itemsize
        if self.budget < 0:
            raise ValueError(f"`{name}` claims more numbers than the file holds")
        return torch.from_numpy(np.asarray(found[()], np.float32))

    def named(self, root: Any) -> dict[str, tuple[Tensor, ...]]:
        """The layers of the older layout, in the model's order."""
        layers = {}
        for layer in map(_text, root.attrs["layer_names"]):
            group = self.group(root, layer)
            names = [_text(name) for name in group.attrs["weight_names"]]
            arrays = [self.array(self.group(group, name), f"{layer}/{name}") for name in names]
            if arrays:
                layers[layer] = tuple(arrays)
        return layers

    def counted(self, root: Any) -> dict[str, tuple[Tensor, ...]]:
        """The layers of Keras 3's layout."""
        place = next((name for name in ("layers", "_layer_checkpoint_dependencies") if name in root), None)
        if place is None:
            raise ValueError("expected `layer_names` or `layers`, as Keras writes them")
        group = self.group(root, place)
        layers = {}
        for name in group:
            layer = self.group(group, name)
            if "vars" not in layer or not len(layer["vars"]):
                continue
            arrays = self.group(layer, "vars")
            numbers = sorted(arrays, key=int)
            layers[name] = tuple(self.array(self.group(arrays, number), f"{name}/{number}") for number in numbers)
        return layers


def _text(name: object) -> str:
    """A name, which older files hold as bytes."""
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)
