"""Receptive fields against hand-worked cases and against gradients of real networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opsin.errors import ConfigError
from opsin.explanation.fields import theoretical_fields
from opsin.explanation.layers import find_layer, last_maps, layers_of, outputs_of, shown_layers
from opsin.explanation.receptive import effective_gradients, effective_side, receptive_fields
from opsin.models.building import build_network, build_segmenter
from opsin.models.registry import ModelSpec

SIDE = 48


def sizes(network: nn.Module, side: int = SIDE, channels: int = 1) -> list[int]:
    """Sides of what each layer of a network can see."""
    layers = layers_of(network, channels, side, side)
    found = receptive_fields(network, layers, torch.zeros(1, channels, side, side))
    return [field.theoretical[0] if field.theoretical else -1 for field in found]


def conv(kernel: int = 3, **settings: int) -> nn.Conv2d:
    return nn.Conv2d(1, 1, kernel, **settings)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Sequential(conv(padding=1), conv(padding=1), conv(padding=1)), [3, 5, 7]),
        (nn.Sequential(conv(), nn.MaxPool2d(2), conv()), [3, 4, 8]),
        (nn.Sequential(conv(stride=2, padding=1), conv(stride=2, padding=1), conv(padding=1)), [3, 7, 15]),
        (nn.Sequential(conv(dilation=2), conv(1), nn.ReLU()), [5, 5, 5]),
        (nn.Sequential(conv(7, stride=2, padding=3), nn.MaxPool2d(3, 2, padding=1), conv(padding=1)), [7, 11, 19]),
        (nn.Sequential(conv(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), conv()), [3, 4, 4, 6]),
        (nn.Sequential(nn.MaxPool2d(2), nn.ConvTranspose2d(1, 1, 2, stride=2)), [2, 2]),
    ],
)
def test_hand_worked_sizes(network: nn.Module, expected: list[int]) -> None:
    assert sizes(network) == expected


def test_a_layer_of_tokens_is_refused_because_it_has_no_channels() -> None:
    network = nn.Sequential(conv(3), nn.Flatten(2), nn.Linear(36, 5))
    layers = layers_of(network, 1, 8, 8)
    assert find_layer(layers, "0").shape == (1, 6, 6)
    with pytest.raises(ConfigError, match="no channels") as caught:
        find_layer(layers, "2")
    assert "[1, 5]" in str(caught.value.got)


def test_bilinear_maps_whose_corners_meet_lie_closer_than_their_sizes_say() -> None:
    """24 places 2 pixels apart span 46 pixels; 47 places over the same span are 1 pixel apart."""
    network = nn.Sequential(nn.MaxPool2d(2), nn.UpsamplingBilinear2d(size=(47, 47)))
    found = receptive_fields(network, layers_of(network, 1, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE))
    assert [field.stride for field in found] == [(2, 2), (1, 1)]


def test_the_plain_network_sees_3_4_8_10_18_22_pixels() -> None:
    network = build_network(ModelSpec(name="plain", channels=1, height=SIDE, width=SIDE), {"logits": 2}, seed=0).eval()
    layers = layers_of(network, 1, SIDE, SIDE)
    found = {f.layer.name: f for f in receptive_fields(network, layers, torch.zeros(1, 1, SIDE, SIDE))}
    for name, size, stride in (
        ("blocks.0.conv", 3, 1),
        ("blocks.0.pool", 4, 2),
        ("blocks.1.conv", 8, 2),
        ("blocks.1.relu", 10, 4),
        ("blocks.2.conv", 18, 4),
        ("blocks.2.relu", 22, 8),
    ):
        assert (found[name].theoretical, found[name].stride) == ((size, size), (stride, stride))


def test_a_dense_layer_sees_the_whole_image() -> None:
    assert sizes(nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)))[-1] == SIDE


class Branches(nn.Module):
    """A wide and a narrow path, added."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.last = conv(5, padding=2), conv(1), conv(padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        output: Tensor = self.last(self.wide(maps) + self.narrow(maps))
        return output


def test_a_sum_sees_what_its_widest_part_sees() -> None:
    assert sizes(Branches()) == [5, 1, 7]


def test_an_operation_that_is_not_known_gives_no_number() -> None:
    assert sizes(Rolled()) == [3, -1]


class Rolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(padding=1), conv(padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        output: Tensor = self.second(self.first(maps).roll(1, dims=3))
        return output


def positive(network: nn.Module) -> nn.Module:
    """Every weight above 0, so that no gradient cancels."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_().add_(0.01)
    return network.eval()


def seen_by_gradient(network: nn.Module, pick: Callable[[Tensor], Tensor], side: int, name: str) -> list[int]:
    """First and last row that the centre unit of a layer depends on, over many images."""
    images = torch.rand(64, 1, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(pick(outputs_of(network, images, [name])[name]).sum(), images)
    rows = torch.nonzero(gradient.abs().sum(dim=(0, 1, 3)))[:, 0]
    return [int(rows[0]), int(rows[-1])]


@pytest.mark.parametrize("name", ["plain", "small", "tiny"])
def test_what_is_computed_is_what_gradients_find(name: str) -> None:
    network = positive(build_network(ModelSpec(name=name, channels=1, height=96, width=96), {"logits": 2}, seed=0))
    fields = theoretical_fields(network, 1, 96, 96)
    layer = last_maps(layers_of(network, 1, 96, 96))
    assert layer is not None
    field = fields[layer.name]
    assert field is not None
    middle = layer.shape[1] // 2
    found = seen_by_gradient(network, lambda maps: maps[:, :, middle, middle], 96, layer.name)
    assert found == [int(field[0].low[middle]), int(field[0].high[middle])]


def test_a_decoder_with_skips_is_followed() -> None:
    spec = ModelSpec(name="unet", channels=1, height=64, width=64, options={"filters": [2, 4], "stem_stride": 1})
    network = positive(build_segmenter(spec, 2))
    field = theoretical_fields(network, 1, 64, 64)["heads.logits"]
    assert field is not None
    found = seen_by_gradient(network, lambda maps: maps[:, :, 32, 32], 64, "heads.logits")
    assert found == [int(field[0].low[32]), int(field[0].high[32])]


def test_the_effective_field_of_one_convolution_is_its_kernel() -> None:
    network = positive(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1)))
    layers = layers_of(network, 1, 9, 9)
    gradient = effective_gradients(network, layers, torch.rand(2, 1, 9, 9))["0"]
    weights = network[0].weight.detach()
    expected = np.zeros((9, 9))
    expected[3:6, 3:6] = 1
    np.testing.assert_array_equal(gradient > 0, expected > 0)
    assert effective_side(gradient) == 3
    assert weights.shape == (4, 1, 3, 3)


def test_the_effective_field_is_the_root_of_the_mean_square_over_channels() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False)).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1))
    layers = layers_of(network, 1, 5, 5)
    gradient = effective_gradients(network, layers, torch.rand(4000, 1, 5, 5))["0"]
    assert gradient[2, 2] == pytest.approx(np.sqrt(1 + 4 + 9), rel=0.05)  # cross terms cancel over many images


def test_layers_are_found_by_either_name_and_a_wrong_one_is_refused() -> None:
    network = build_network(ModelSpec(name="plain", channels=1, height=16, width=16), {"logits": 2}, seed=0)
    layers = layers_of(network, 1, 16, 16)
    assert find_layer(layers, "backbone.blocks.0.conv") == find_layer(layers, "blocks.0.conv")
    with pytest.raises(ConfigError, match=r"blocks\.0\.conv"):
        find_layer(layers, "blocks.0.cnov")


def test_the_layers_shown_are_activations_from_fine_to_coarse() -> None:
    network = build_network(ModelSpec(name="plain", channels=1, height=16, width=16), {"logits": 2}, seed=0)
    layers = layers_of(network, 1, 16, 16)
    assert [layer.name for layer in shown_layers(layers)] == ["blocks.0.relu", "blocks.1.relu", "blocks.2.relu"]


def test_outputs_are_those_before_a_layer_that_works_in_place() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(inplace=True)).eval()
    with torch.no_grad():
        network[0].weight.fill_(-1.0)
    outputs = outputs_of(network, torch.ones(1, 1, 2, 2), ["0", "1"])
    assert outputs["0"].max() == -1
    assert outputs["1"].max() == 0
