"""Convolution and norm in one: the same function, the same gradients."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from opsin.models.architectures.xception import Separable
from opsin.models.parts import convolutions
from opsin.models.parts.convolutions import ConvNorm


def make_layer(**options):
    """A layer in float64 whose norm has seen other data than zeros."""
    return settled(ConvNorm(6, 8, **options))


def settled(layer):
    layer = layer.double()
    torch.nn.init.normal_(layer.norm.running_mean)
    torch.nn.init.uniform_(layer.norm.running_var, 0.5, 2.0)
    torch.nn.init.normal_(layer.norm.weight)
    torch.nn.init.normal_(layer.norm.bias)
    return layer.eval()


def gradients(layer, maps, forward):
    layer.zero_grad()
    maps = maps.clone().requires_grad_()
    output = forward(maps)
    output.square().sum().backward()
    return [output.detach(), maps.grad, *(parameter.grad.clone() for parameter in layer.parameters())]


@pytest.mark.parametrize(
    "options",
    [{}, {"side": 1, "bias": True}, {"stride": 2, "padding": "same"}, {"stride": 2, "groups": 2, "epsilon": 1e-3}],
)
def test_a_norm_in_inference_mode_is_folded_into_the_filters_and_nothing_changes(options):
    layer = make_layer(**options)
    maps = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    ours = gradients(layer, maps, layer)
    theirs = gradients(layer, maps, lambda x: layer.norm(layer.conv(x)))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_the_norm_of_a_separable_convolution_is_folded_too(monkeypatch):
    layer, maps = settled(Separable(6, 8, 1e-3)), torch.randn(2, 6, 7, 9, dtype=torch.float64)
    theirs = gradients(layer, maps, lambda x: layer.norm(layer.pointwise(layer.depthwise(x))))
    folded = Mock(wraps=convolutions.folded)
    monkeypatch.setattr(convolutions, "folded", folded)
    ours = gradients(layer, maps, layer)
    assert folded.call_count == 1
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_in_training_the_statistics_of_the_batch_count():
    layer, maps = make_layer().train(), torch.randn(4, 6, 5, 5, dtype=torch.float64)
    output, before = layer(maps), make_layer().norm.num_batches_tracked
    torch.testing.assert_close(output.mean((0, 2, 3)), layer.norm.bias)
    assert layer.norm.num_batches_tracked == before + 1


def test_without_gradients_nothing_is_folded_so_that_the_reference_is_met_exactly():
    layer, maps = make_layer(), torch.randn(1, 6, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(layer(maps), layer.norm(layer.conv(maps)))


def test_who_watches_the_norm_sees_what_it_gives():
    layer, maps, seen = make_layer(), torch.randn(1, 6, 5, 5, dtype=torch.float64), []
    unwatched = layer(maps)
    with layer.norm.register_forward_hook(lambda module, inputs, output: seen.append(output)):
        torch.testing.assert_close(layer(maps), unwatched)
    torch.testing.assert_close(seen, [unwatched])
