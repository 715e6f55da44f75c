"""Exponential moving average of a network's weights and running statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opsin.training.engine.shards import divided_like, own_part


class MovingAverage:
    """Keeps an average of every floating-point tensor of `network`.

    Args:
        network: whose tensors are averaged.
        decay: weight of the old average at each step, in [0, 1); smaller at first, (1 + t) / (10 + t), so that the
            average does not remember the random start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = network
        self.tensors = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        present = self.network.state_dict()
        floating = [key for key, value in self.tensors.items() if value.is_floating_point()]
        averages, news = ([own_part(tensors[key]) for key in floating] for tensors in (self.tensors, present))
        torch._foreach_lerp_(averages, news, 1 - decay)
        for key in self.tensors.keys() - set(floating):
            self.tensors[key].copy_(present[key])

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Replace the averages."""
        for key, value in self.tensors.items():
            value.copy_(divided_like(value, tensors[key]))
