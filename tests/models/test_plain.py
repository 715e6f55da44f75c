"""The dense baseline and the plain CNN: published sizes, knobs, the start of the weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from opsin.config import ModelConfig
from opsin.errors import ConfigError
from opsin.models.architectures.plain import Plain
from opsin.models.building import build_network
from opsin.models.parts.layers import dense_stack, keras_init, seeded
from opsin.models.parts.network import Network
from opsin.models.registry import ModelSpec, resolve_options
from opsin.models.table import count_parameters


def make_plain(shape: tuple[int, int, int] = (3, 32, 32), **knobs: Any) -> Network:
    options = resolve_options("plain", ModelConfig(**knobs))
    return build_network(
        ModelSpec(name="plain", channels=shape[0], height=shape[1], width=shape[2], options=options),
        {"logits": 10},
        seed=0,
    )


def counts_by_hand(filters: tuple[int, ...], dense: tuple[int, ...]) -> tuple[int, int]:
    """Keras' counting: 3x3 filters and biases, four numbers a channel of batch norm of which two are statistics."""
    total, statistics, inputs, side = 0, 0, 3, 32
    for outputs in filters:
        total += 9 * inputs * outputs + outputs + 4 * outputs
        statistics += 2 * outputs
        inputs, side = outputs, side // 2
    inputs *= side * side
    for outputs in dense:
        total += inputs * outputs + outputs + 4 * outputs
        statistics += 2 * outputs
        inputs = outputs
    total += inputs * 10 + 10
    return total, total - statistics


@pytest.mark.parametrize(
    ("filters", "dense", "total", "trainable"),
    [
        ((16, 32), (), 25_770, 25_674),
        ((16, 32), (50,), 108_440, 108_244),
        ((16, 32, 32, 32), (50,), 31_192, 30_868),
    ],
)
def test_the_courses_configurations_have_their_published_sizes(
    filters: tuple[int, ...], dense: tuple[int, ...], total: int, trainable: int
) -> None:
    assert count_parameters(make_plain(filters=filters, dense=dense)) == (total, trainable)
    assert counts_by_hand(filters, dense) == (total, trainable)


def test_first_filters_really_double_from_layer_to_layer() -> None:
    assert resolve_options("plain", ModelConfig(conv_layers=4, first_filters=16))["filters"] == [16, 32, 64, 128]
    assert resolve_options("plain", ModelConfig(conv_layers=2))["filters"] == [32, 64]
    assert resolve_options("plain", ModelConfig(first_filters=5))["filters"] == [5, 10, 20]


def test_filters_and_their_count_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="contradict"):
        resolve_options("plain", ModelConfig(filters=(3, 4), conv_layers=2))


@pytest.mark.parametrize(
    "options",
    [
        {"filters": [0]},
        {"filters": [-3]},
        {"filters": [10**9]},
        {"dense": [0]},
        {"kernel_size": 2},
        {"dropout": 1.0},
        {"conv_dropout": -0.1},
        {"dense_dropout": math.nan},
        {"filters": "16"},
        {"downsample": "average"},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build_network(ModelSpec(name="plain", channels=3, height=32, width=32, options=options), {"logits": 2})


def test_images_that_pooling_would_reduce_to_nothing_are_refused() -> None:
    assert make_plain((3, 8, 9), filters=(2, 2, 2)).backbone.min_side == 8
    with pytest.raises(ConfigError, match="at least 8 pixels"):
        make_plain((3, 7, 32), filters=(2, 2, 2))


def test_stride_rounds_sides_up_and_pooling_down() -> None:
    stride = make_plain((3, 21, 21), filters=(2, 4), downsample="stride", batch_norm=False)
    pool = make_plain((3, 21, 21), filters=(2, 4), batch_norm=False)
    assert stride.backbone.num_features == 4 * 6 * 6
    assert pool.backbone.num_features == 4 * 5 * 5
    images = torch.randn(2, 3, 21, 21)
    assert [tuple(m.shape) for m in stride.backbone.pyramid(images)] == [(2, 2, 11, 11), (2, 4, 6, 6)]
    assert [tuple(m.shape) for m in pool.backbone.pyramid(images)] == [(2, 2, 21, 21), (2, 4, 10, 10), (2, 4, 5, 5)]


def test_without_batch_norm_nothing_but_weights_is_stored() -> None:
    network = make_plain(filters=(4,), dense=(3,), batch_norm=False)
    assert not list(network.buffers())
    assert count_parameters(network)[0] == count_parameters(network)[1]


@torch.no_grad()
def test_a_block_equals_convolution_norm_relu_pooling_in_the_textbook_order() -> None:
    network = make_plain((3, 12, 12), filters=(5, 6)).eval()
    images = torch.randn(4, 3, 12, 12)
    backbone = network.backbone
    assert isinstance(backbone, Plain)
    maps = images
    for conv, norm in ((block.conv, block.norm) for block in backbone.blocks):
        nn.init.normal_(norm.weight)  # also negative scales
        nn.init.normal_(norm.running_mean)
        maps = nn.functional.max_pool2d(torch.relu(norm(conv(maps))), 2)
    torch.testing.assert_close(backbone(images), maps.flatten(1))


def test_dropout_stands_where_its_knob_says() -> None:
    network = make_plain((3, 8, 8), filters=(4,), dense=(6, 5), conv_dropout=0.1, dense_dropout=0.2, dropout=0.3)
    found = {name: layer.p for name, layer in network.named_modules() if isinstance(layer, nn.Dropout | nn.Dropout2d)}
    assert found == {
        "backbone.blocks.0.dropout": 0.1,
        "backbone.dense.dropout1": 0.2,
        "backbone.dense.dropout2": 0.2,
        "backbone.dropout": 0.3,
    }


def test_weights_start_as_glorot_uniform_with_zero_biases() -> None:
    with seeded(3):
        layers = keras_init(nn.Sequential(nn.Conv2d(16, 32, 3), nn.Linear(200, 100)))
    for layer, fans in ((layers[0], 9 * (16 + 32)), (layers[1], 300)):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        limit = math.sqrt(6 / fans)
        assert layer.weight.abs().max() <= limit
        # of a uniform distribution in ±limit: standard deviation limit / sqrt(3)
        assert float(layer.weight.detach().std()) == pytest.approx(limit / math.sqrt(3), rel=0.03)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_a_dense_stack_without_nodes_passes_its_input_through() -> None:
    features = torch.randn(2, 3)
    assert torch.equal(dense_stack(3, [], batch_norm=True, dropout=0.5)(features), features)


def test_every_head_of_the_dense_networks_starts_with_zero_biases() -> None:
    for name in ("dense", "plain"):
        network = build_network(ModelSpec(name=name, channels=1, height=16, width=16), {"logits": 4, "box": 4}, seed=0)
        outputs = network(torch.zeros(2, 1, 16, 16))
        assert {key: tuple(value.shape) for key, value in outputs.items()} == {"logits": (2, 4), "box": (2, 4)}
        assert all(not head.bias.any() for head in network.heads.values())


def test_a_separable_layer_has_a_filter_for_each_map_and_a_1x1_convolution() -> None:
    plain, split = (
        make_plain(filters=(16, 32), batch_norm=False, separable=s).backbone.blocks[1] for s in (False, True)
    )
    sizes = [sum(p.numel() for p in block.parameters()) for block in (plain, split)]
    assert sizes == [16 * 32 * 9 + 32, 16 * 9 + 16 * 32 + 32]


def test_a_residual_block_adds_what_its_second_convolution_sees() -> None:
    networks = [make_plain(filters=(4,), second_conv=name).eval() for name in ("plain", "residual")]
    networks[1].load_state_dict(networks[0].state_dict())
    maps = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, residual = (network.backbone.blocks[0] for network in networks)
    seen = plain.relu(plain.pool(plain.norm(plain.conv(maps))))
    torch.testing.assert_close(residual(maps), plain(maps) + seen)


def test_response_norm_is_alexnets_formula() -> None:
    block = make_plain(filters=(8,), response_norm=True).eval().backbone.blocks[0]
    maps = torch.rand(1, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    found = block.response_norm(maps)
    near = maps[0, 1:6].square().sum(dim=0)  # channel 3 and two to either side
    torch.testing.assert_close(found[0, 3], maps[0, 3] / (2 + 1e-4 / 5 * near) ** 0.75)


def test_with_global_pooling_any_size_is_taken() -> None:
    network = make_plain(filters=(8, 16), global_pool=True).eval()
    assert network(torch.zeros(1, 3, 50, 70))["logits"].shape == (1, 10)
    assert network.backbone.num_features == 16
