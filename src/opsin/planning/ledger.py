"""Memory of a training step, without allocating it: the step runs on tensors without contents, and a ledger is kept.

Every tensor that the step would allocate is added with its bytes and removed when it would be freed. So the peak
is that of the real step, except for allocations inside library operations that `workspace` does not model.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from opsin.planning.heap import Heap


class Workspace(NamedTuple):
    """Temporary bytes of an operation, and whether it writes to them."""

    size: int
    written: bool = True


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Live bytes by kind, now and at the peak.

    Inside `with ledger:` every new tensor is added under `kind`. Views share the entry of their storage.

    Attributes:
        kind: kind of new tensors.
        live: bytes currently allocated, by kind.
        at_peak: the same at the moment when most was allocated.
        owners: bytes currently allocated, by the name of the allocating layer; see `watching`.
        heap: the placement of the tensors.

    Args:
        workspace: temporary memory of an operation, a function of operation, arguments and result.
    """

    def __init__(self, workspace: Callable[[Any, tuple[Any, ...], Any], Workspace]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.heap = Heap()
        self._workspace = workspace
        self.kind = "weights"
        self.live: Counter[str] = Counter()
        self.at_peak: Mapping[str, int] = {}
        self.owners: Counter[str] = Counter()
        self._entries: dict[int, tuple[int, str, str, int]] = {}
        self._layers: list[str] = []

    @property
    def total(self) -> int:
        """Bytes currently allocated."""
        return sum(self.live.values())

    @property
    def peak(self) -> int:
        """Most bytes that were allocated at one time since the last `forget_peak`."""
        return sum(self.at_peak.values())

    def forget_peak(self) -> None:
        """Reset the peak."""
        self.at_peak = dict(self.live)

    def relabel(self, tensor: Tensor, kind: str) -> None:
        """Count the storage of `tensor` as `kind` from now on."""
        key = id(tensor.untyped_storage())
        if key in self._entries:
            size, old, owner, address = self._entries[key]
            self._entries[key] = (size, kind, owner, address)
            self.live[old] -= size
            self.live[kind] += size

    @contextmanager
    def watching(self, network: nn.Module, *, folds: bool = False) -> Iterator[None]:
        """Context that records which layer of `network` allocates each tensor.

        Args:
            network: its layers get hooks while it is watched.
            folds: its convolutions are folded with the norms that follow, which hooks prevent: their allocations
                count for the first convolution of their block.
        """
        handles = []
        for name, module in (_blocks_and_layers if folds else _layers)(network):
            handles.append(module.register_forward_pre_hook(self._entering(name)))
            handles.append(module.register_forward_hook(self._leaving))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        workspace = self._workspace(func, args, result)
        address = self.heap.take(workspace.size, written=workspace.written) if workspace.size else None
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._enter(leaf)
        if address is not None:
            self.heap.give(address)
            if workspace.written and self.total + workspace.size > self.peak:
                self.at_peak = {**self.live, "workspace": self.live["workspace"] + workspace.size}
        return result

    def _enter(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._entries:
            return
        size, owner = storage.nbytes(), self._layers[-1] if self._layers else ""
        self._entries[key] = (size, self.kind, owner, self.heap.take(size))
        weakref.finalize(storage, self._strike, key)
        self.live[self.kind] += size
        self.owners[owner] += size
        if self.total > self.peak:
            self.at_peak = dict(self.live)

    def _strike(self, key: int) -> None:
        size, kind, owner, address = self._entries.pop(key)
        self.heap.give(address)
        self.live[kind] -= size
        self.owners[owner] -= size

    def _entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def enter(_: nn.Module, __: Any) -> None:
            self._layers.append(name)

        return enter

    def _leaving(self, _: nn.Module, __: Any, ___: Any) -> None:
        self._layers.pop()


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers, which have no layers inside, by name."""
    for name, module in network.named_modules():
        if next(module.children(), None) is None:
            yield name, module


def _blocks_and_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers that are neither convolutions nor norms, and blocks of these by the name of their first convolution."""
    for name, module in _layers(network):
        if not isinstance(module, nn.Conv2d | _BatchNorm):
            yield name, module
    for name, module in network.named_modules():
        first = next((inner for inner, child in module.named_children() if isinstance(child, nn.Conv2d)), None)
        if first is not None:
            yield f"{name}.{first}".removeprefix("."), module


def allocate(network: nn.Module) -> nn.Module:
    """Give a network of the meta device tensors on the CPU, filters [out, in, h, w] laid out as training does.

    Call it where tensors have no contents. Building the network there fails: backbones are copied and moved to the meta
    device during construction, which such tensors do not support.
    """
    made: dict[int, Tensor] = {}
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = made.setdefault(id(tensor), _allocated(tensor))  # type: ignore[assignment]
    return network


def _allocated(tensor: Tensor) -> Tensor:
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    new = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", memory_format=layout)
    return nn.Parameter(new, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
