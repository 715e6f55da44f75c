"""What is planned, and the network that it names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from opsin.config import OptimizerName
from opsin.models.network import Network
from opsin.models.registry import ModelSpec, build_network

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is planned: a network, and how it is trained.

    `num_outputs`: length of the logits; 0 plans the backbone without its head. `batch`: images in a step of the
    optimizer, in `accumulate` parts. `precision`: of the forward and backward passes. `keep_memory`: whether the C
    allocator keeps freed memory, as training lets it by default.
    """

    spec: ModelSpec
    num_outputs: int = 10
    batch: int = 128
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    precision: str = "float32"
    checkpoint_activations: bool = False
    keep_memory: bool = True

    @property
    def part(self) -> int:
        """Images that pass the network at once."""
        return -(-self.batch // self.accumulate)


def build(request: Request) -> Network:
    """The network of a request, without heads where none is wanted."""
    return build_network(request.spec, {"logits": request.num_outputs} if request.num_outputs else {})


def run(network: Network, images: Tensor) -> dict[str, Tensor]:
    """Outputs of `network`, or its features where it has no heads."""
    if network.heads:
        return network(images)  # type: ignore[no-any-return]
    return {"features": network.backbone(network.normalize(images))}


def autocast(precision: str) -> torch.autocast:
    """The context of a forward pass in `precision`."""
    if precision == "float32":
        return torch.autocast("cpu", enabled=False)
    return torch.autocast("cpu", dtype=DTYPES[precision])
