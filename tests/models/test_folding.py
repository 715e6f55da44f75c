"""Norms folded into convolutions: the same predictions, fewer layers; what cannot be folded is left."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from opsin.config import ModelConfig
from opsin.models.building import build_network
from opsin.models.registry import ModelSpec, resolve_options
from opsin.models.wrappers.folding import folded


def trained(network: nn.Module) -> nn.Module:
    """A network whose norms have statistics and weights that matter, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight, module.running_mean, module.bias):
                assert tensor is not None
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", ["small", "efficientnet_lite0", "mobilenet_v2", "resnet18", "xception"])
def test_a_folded_network_predicts_the_same(name: Any) -> None:
    options = resolve_options(name, ModelConfig())
    spec = ModelSpec(name=name, channels=3, height=64, width=64, options=options)
    network = trained(build_network(spec, {"logits": 5}, seed=0))
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = folded(network, images)
    assert norms(found) < norms(network)
    with torch.no_grad():
        before, after = network(images)["logits"], found(images)["logits"]
    assert float((before - after).abs().max()) <= 1e-4 * float(before.abs().max())


class Net(nn.Module):
    """Layers, called in the order that a test gives; the output is a sum over the image."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.layers = nn.ModuleDict(
            OrderedDict(a=nn.Conv2d(3, 3, 3, padding=1), n=nn.BatchNorm2d(3), b=nn.Conv2d(3, 3, 1), r=nn.ReLU())
        )

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        for name in self.order:
            maps = self.layers[name](maps)
        return {"logits": maps.sum(dim=(2, 3))}


class Branched(Net):
    """The output of the convolution is used beside the norm."""

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        maps = self.layers["a"](maps)
        return {"logits": (maps + self.layers["n"](maps)).sum(dim=(2, 3))}


@pytest.mark.parametrize(("order", "left"), [("anr", 0), ("arn", 1), ("na", 1), ("aban", 1), ("ban", 0), ("anan", 1)])
def test_a_norm_is_folded_only_where_it_follows_a_convolution_that_is_used_once(order: str, left: int) -> None:
    network = trained(Net(order))
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = folded(network, images)
    assert norms(found) == left
    with torch.no_grad():
        assert torch.allclose(found(images)["logits"], network(images)["logits"], rtol=1e-4, atol=1e-3)


def test_a_network_whose_folded_copy_differs_is_left_as_it_is() -> None:
    network = trained(Branched("an"))
    assert folded(network, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))) is network


def test_the_network_itself_is_not_changed() -> None:
    network = trained(Net("anr"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded(network, torch.zeros(1, 3, 8, 8) + 0.5)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
