"""A converted network gives the same answers at the training size, and at every window of a larger image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from opsin.config import ModelConfig
from opsin.errors import ConfigError
from opsin.models.building import build_network
from opsin.models.convert import FullyConvolutional, WindowMaximum, fully_convolutional, to_convolution
from opsin.models.parts.layers import seeded
from opsin.models.parts.network import Network
from opsin.models.registry import ModelSpec, resolve_options

NETWORKS = {
    "no dense layer": ModelConfig(filters=(4, 8)),
    "two dense layers": ModelConfig(filters=(4, 8), dense=(12, 6), dense_dropout=0.1, dropout=0.2),
    "stride, no norm": ModelConfig(filters=(4, 8), dense=(5,), downsample="stride", batch_norm=False),
    "dense": ModelConfig(model="dense", dense=(16, 8)),
    "small": ModelConfig(model="small", filters=(4, 8)),
    "tiny": ModelConfig(model="tiny", filters=(4, 8, 8)),
}


def trained(config: ModelConfig) -> Network:
    """A network with running statistics and biases as if trained."""
    spec = ModelSpec(name=config.model, channels=3, height=12, width=16, options=resolve_options(config.model, config))
    network = build_network(spec, {"logits": 5}, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if "var" in name else 0.0))
    return network.eval()


def images(height: int, width: int) -> torch.Tensor:
    return torch.randn(4, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_the_answers_at_the_training_size_are_the_same(name: str) -> None:
    network = trained(NETWORKS[name])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    converted = fully_convolutional(network).eval()
    assert converted.maps(images(12, 16))["logits"].shape == (4, 5, 1, 1)
    found, expected = (made(images(12, 16))["logits"] for made in (converted, network))
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@torch.inference_mode()
def test_without_convolutions_each_place_is_the_dense_network_on_its_window() -> None:
    network = trained(NETWORKS["dense"])
    larger = images(14, 19)
    answers = fully_convolutional(network).eval().maps(larger)["logits"]
    assert answers.shape == (4, 5, 3, 4)
    for row in range(3):
        for column in range(4):
            window = larger[:, :, row : row + 12, column : column + 16]
            torch.testing.assert_close(answers[:, :, row, column], network(window)["logits"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_a_larger_image_gives_a_map_whose_mean_is_the_answer(name: str) -> None:
    converted = fully_convolutional(trained(NETWORKS[name])).eval()
    maps = converted.maps(images(24, 40))["logits"]
    assert maps.shape[2] > 1
    assert maps.shape[3] > maps.shape[2]
    torch.testing.assert_close(converted(images(24, 40))["logits"], maps.mean((2, 3)))


def test_a_dense_layer_as_a_convolution_worked_by_hand() -> None:
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        layer.bias.fill_(0.5)
    made = to_convolution(layer, (1, 2, 2))
    pixels = torch.tensor([[[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]])
    assert made(pixels).tolist() == [[[[5.5, 5.5]]]]  # 1*1 + 4*1, then 2*1 + 3*1


def test_windows_of_the_size_of_the_map_give_the_global_maximum() -> None:
    maps = images(5, 7)
    assert torch.equal(WindowMaximum((5, 7), 0.25)(maps)[..., 0, 0], maps.amax((2, 3)) * 0.25)


def test_the_parameters_are_as_many_as_before() -> None:
    for config in NETWORKS.values():
        network = trained(config)
        converted = fully_convolutional(network)
        assert sum(p.numel() for p in converted.parameters()) == sum(p.numel() for p in network.parameters())


def test_images_smaller_than_those_of_training_are_refused() -> None:
    converted = fully_convolutional(trained(NETWORKS["two dense layers"]))
    for wrong in (images(11, 16), images(12, 15), images(12, 16)[:, :1]):
        with pytest.raises(ConfigError, match="too small"):
            converted(wrong)


def test_a_network_of_unknown_layers_is_refused() -> None:
    network = trained(NETWORKS["no dense layer"])
    network.backbone.dense = nn.Sequential(nn.Softmax(dim=1))
    with pytest.raises(ConfigError, match="Softmax"):
        fully_convolutional(network)


def test_a_converted_network_can_be_built_again_from_its_spec() -> None:
    from opsin.tasks import get_task

    spec = ModelSpec(name="plain", channels=3, height=12, width=16, options={"fully_convolutional": True})
    with seeded(0):
        made = get_task("classify").build(spec, 5)
    assert isinstance(made, FullyConvolutional)
    assert made(images(12, 16))["logits"].shape == (4, 5)
