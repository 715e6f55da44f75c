"""A network whose weights, gradients and optimizer are divided among processes, for what one device cannot hold.

    each process holds 1/N of every tensor
    forward, backward   the weights of one section at a time are gathered whole, and dropped after it
    after backward      gradients are averaged, and each process keeps its part
    step                each process changes its part

PyTorch's FSDP2 (`fully_shard`) does it; divided tensors are DTensors. The functions here leave other tensors as they
are, so that what handles weights (optimizers, checkpoints, averages, guards) is written once. Whole weights exist in
the memory of the processor at the start, as a checkpoint is read or written, and at the end.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn

from opsin.config import RunConfig
from opsin.errors import ConfigError
from opsin.group import Group
from opsin.models.wrappers.recompute import recomputed_sections
from opsin.training.engine.replicas import Replicas

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

PLAIN = (Tensor, nn.Parameter)


class Shards(Replicas):
    """A network of which each process holds a part, as one of the processes calls it; same use as `Replicas`.

    Args:
        network: alike in all processes; its weights are divided in place, section by section.
        group: the processes, two or more.
        device: of this process; the parts are moved there.
    """

    def __init__(self, network: nn.Module, group: Group, device: torch.device) -> None:
        super().__init__(network, group, device)
        self._structure = _without_weights(network)
        _divide(network, group, device)
        self._call = network

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        with warnings.catch_warnings():
            # of outputs that are views, which must not be changed in place, and are not
            warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
            return self._call(images)

    def prepare(self, loss: Callable[[], Tensor]) -> None:
        """Nothing: the order in which gradients are added up does not depend on a first step."""

    @contextmanager
    def averaging(self, *, now: bool) -> Iterator[None]:
        """Gradients are averaged after each part of the batch: kept whole until the last they would not fit."""
        yield

    def whole_network(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A network like the one that was divided, with whole weights (and statistics) by their names."""
        network = copy.deepcopy(self._structure)
        network.load_state_dict({key: value.to(self.device) for key, value in weights.items()}, assign=True)
        return network.to(self.device)


def is_sharded(config: RunConfig, group: Group) -> bool:
    """Whether the weights of a run are divided among the processes of `group`.

    Raises:
        ConfigError: a setting that divided weights cannot be trained with.
    """
    if not config.train.shard_weights or group.alone:
        return False
    if config.train.compile:
        do = "leave one of them out"
        raise ConfigError("divided weights are not compiled", where="--shard-weights", got="--compile", do=do)
    if config.finetune.finetune in ("staged", "gradual"):
        raise ConfigError(
            "divided weights are frozen for the whole run, or not at all",
            where="--shard-weights",
            got=f"--finetune {config.finetune.finetune}",
            expected="--finetune all, head or top:N",
            do="choose one of these, or leave --shard-weights out",
        )
    return True


def is_divided(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether each process holds a part of `tensor`."""
    if type(tensor) in PLAIN:
        return False
    from torch.distributed.tensor import DTensor  # here, as importing it takes most of a second

    return isinstance(tensor, DTensor)


def holds_parts(network: nn.Module) -> bool:
    """Whether weights of `network` are divided: all processes have to call it then, equally often."""
    return any(is_divided(parameter) for parameter in network.parameters())


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of `tensor`, in the same memory; nothing of its gradient's graph."""
    if not is_divided(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()
    return part


def whole(tensor: Tensor) -> Tensor:
    """All of `tensor`; asked for by all processes."""
    if not is_divided(tensor):
        return tensor
    with torch.no_grad():
        found: Tensor = tensor.full_tensor()
    return found


def divided_like(like: Tensor, tensor: Tensor) -> Tensor:
    """This process's part of `tensor`, which every process has whole, where `like` is divided and of its shape."""
    if not is_divided(like) or is_divided(tensor) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    found: Tensor = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return found


def gathered(tensors: Mapping[str, Tensor], group: Group) -> dict[str, Tensor]:
    """On the lead all tensors, those that were divided whole and on the CPU; elsewhere none. All processes call it."""
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        complete = whole(value).cpu() if is_divided(value) else value
        if group.leads:
            found[key] = complete
    return found


def _divide(network: nn.Module, group: Group, device: torch.device) -> None:
    """Keep 1/N of each weight, a section at a time: the whole network need not fit on the device."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (group.size,))
    for parameter in network.parameters():
        if not parameter.is_contiguous():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    for section in (*recomputed_sections(network), network):
        fully_shard(section, mesh=mesh, reshard_after_forward=True)


def _without_weights(network: nn.Module) -> nn.Module:
    """A copy of `network` whose parameters have no contents; its buffers have theirs."""
    empty: dict[int, object] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        for parameter in network.parameters()
    }
    return copy.deepcopy(network, empty)
