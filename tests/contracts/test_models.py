"""What every architecture of the registry promises."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from opsin.config import ModelConfig
from opsin.errors import ConfigError
from opsin.models.building import build_backbone, build_network
from opsin.models.parts.network import Network
from opsin.models.registry import ENTRIES, ModelSpec, resolve_options
from opsin.models.table import count_parameters, layer_table

NUM_CLASSES = 7
NAMES = sorted(ENTRIES)
SMALL_KNOBS: dict[str, dict[str, Any]] = {
    "dense": {"dense": (16, 8), "batch_norm": True, "dense_dropout": 0.1},
    "plain": {"filters": (4, 8), "dense": (6,), "conv_dropout": 0.1, "dense_dropout": 0.1, "dropout": 0.1},
    "small": {"filters": (8, 12), "dropout": 0.1},
    "tiny": {"filters": (6, 8, 10), "dropout": 0.1},
    "lenet5": {"dense": (12,), "dropout": 0.1},
    "alexnet": {"width": 0.125, "stem": "small", "dense": (16,), "dropout": 0.1},
    "vgg16": {"width": 0.125, "stem": "small", "dense": (), "dropout": 0.1},
    "googlenet": {"width": 0.125, "stem": "small", "dropout": 0.1},
    "xception": {"width": 0.1, "stem": "small", "dropout": 0.1},
    "resnet18": {"width": 0.125, "stem": "small", "dropout": 0.1},
    "resnet50": {"width": 0.125, "stem": "small", "dropout": 0.1},
    "seresnet50": {"width": 0.125, "stem": "small", "dropout": 0.1},
    "mobilenet_v2": {"width": 0.1, "stem": "small", "dropout": 0.1},
    "efficientnet_lite0": {"width": 0.1, "stem": "small", "dropout": 0.1},
    "unet": {"filters": (6, 8), "block": "residual", "batch_norm": False, "stem_stride": 1, "dropout": 0.1},
}
"""Other options than the defaults, and quick."""


def make_spec(name: str, shape: tuple[int, int, int], *, learned_input: bool = False, small: bool = True) -> ModelSpec:
    config = ModelConfig(**SMALL_KNOBS[name]) if small else ModelConfig()
    options = resolve_options(name, config, learned_input=learned_input)
    return ModelSpec(name=name, channels=shape[0], height=shape[1], width=shape[2], options=options)


def make_network(name: str, shape: tuple[int, int, int], *, seed: int = 0, learned_input: bool = False) -> Network:
    return build_network(make_spec(name, shape, learned_input=learned_input), {"logits": NUM_CLASSES}, seed=seed)


def make_images(num: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(num, *shape, generator=torch.Generator().manual_seed(1))


def test_every_architecture_is_tested_with_other_options_than_its_defaults() -> None:
    assert sorted(SMALL_KNOBS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_classify_images_of_the_default_size(name: str) -> None:
    entry = ENTRIES[name]
    spec = make_spec(name, entry.default_size, small=False)
    assert spec.options == entry.options
    network = build_network(spec, {"logits": 10}, seed=0)
    logits = network(make_images(2, entry.default_size))["logits"]
    assert logits.shape == (2, 10)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (1, 33, 29), (3, 29, 41), (3, 96, 96)])
@pytest.mark.parametrize("name", NAMES)
def test_odd_sizes_and_one_or_three_channels_work(name: str, shape: tuple[int, int, int]) -> None:
    logits = make_network(name, shape)(make_images(2, shape))["logits"]
    assert logits.shape == (2, NUM_CLASSES)
    assert logits.isfinite().all()


@pytest.mark.parametrize("learned_input", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_every_trainable_parameter_and_no_other(name: str, learned_input: bool) -> None:
    shape = (3, 20, 20)
    network = make_network(name, shape, learned_input=learned_input)
    outputs = network(make_images(16, shape))["logits"]
    torch.nn.functional.cross_entropy(outputs, torch.arange(16) % NUM_CLASSES).backward()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().max() > 0 or _cancelled_by_batch_norm(key), key
        else:
            assert parameter.grad is None, key


def _cancelled_by_batch_norm(key: str) -> bool:
    """Biases right before a batch norm have a gradient of zero: the norm takes the mean away."""
    return key.endswith(("conv.bias", "linear1.bias", "linear2.bias"))


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_a_state_dict(name: str) -> None:
    shape = (3, 20, 20)
    first, second = make_network(name, shape, seed=0), make_network(name, shape, seed=1)
    images = make_images(16, shape)
    first.init_from_data(images)
    first(images)
    second.load_state_dict(first.state_dict(), strict=True)
    torch.testing.assert_close(
        first.eval()(images)["logits"], second.eval()(images)["logits"], rtol=0, atol=0, msg="outputs differ"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_that_went_through_json_builds_the_same_network(name: str) -> None:
    spec = make_spec(name, (3, 20, 20), learned_input=True)
    again = ModelSpec(**json.loads(json.dumps({**vars(spec), "options": dict(spec.options)})))
    first = build_network(spec, {"logits": 3}, seed=4).state_dict()
    second = build_network(again, {"logits": 3}, seed=4).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_the_meta_device_builds_the_same_shapes_without_memory(name: str) -> None:
    spec = make_spec(name, (3, 20, 20), learned_input=True)
    with torch.device("meta"):
        network = build_network(spec, {"logits": NUM_CLASSES})
    assert all(value.is_meta for value in network.state_dict().values())
    real = build_network(spec, {"logits": NUM_CLASSES}, seed=0).state_dict()
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in real.items()
    }
    network.load_state_dict(real, assign=True)
    assert network.eval()(make_images(1, (3, 20, 20)))["logits"].shape == (1, NUM_CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_a_function_of_the_seed_alone(name: str) -> None:
    before = torch.get_rng_state()
    first = make_network(name, (3, 20, 20), seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second = make_network(name, (3, 20, 20), seed=5).state_dict()
    other = make_network(name, (3, 20, 20), seed=6).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["heads.logits.weight"], other["heads.logits.weight"])


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_format_changes_no_answer(name: str) -> None:
    shape = (3, 21, 26)
    network = make_network(name, shape).eval()
    images = make_images(4, shape)
    expected = network(images)["logits"]
    network = network.to(memory_format=torch.channels_last)
    given = network(images.contiguous(memory_format=torch.channels_last))["logits"]
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_gives_what_a_batch_of_many_gives(name: str) -> None:
    shape = (3, 20, 20)
    network = make_network(name, shape, learned_input=True)
    images = make_images(9, shape)
    network(images)
    network.eval()
    many = network(images)["logits"]
    one = torch.cat([network(image[None])["logits"] for image in images])
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_length_that_the_backbone_says(name: str) -> None:
    backbone = build_backbone(make_spec(name, (3, 20, 20)))
    assert backbone(make_images(3, (3, 20, 20))).shape == (3, backbone.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_pyramids_go_from_fine_to_coarse_with_the_channels_that_the_backbone_says(name: str) -> None:
    backbone = build_backbone(make_spec(name, (3, 24, 33))).eval()
    images = make_images(2, (3, 24, 33))
    if not backbone.pyramid_channels:
        with pytest.raises(ConfigError, match="no feature maps"):
            backbone.pyramid(images)
        return
    maps = backbone.pyramid(images)
    assert tuple(level.shape[1] for level in maps) == backbone.pyramid_channels
    heights = [level.shape[2] for level in maps]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == len(heights)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_another_shape_are_accepted_or_refused_as_the_backbone_says(name: str) -> None:
    network = make_network(name, (3, 20, 20)).eval()
    with pytest.raises(ConfigError, match="3 channels"):
        network(make_images(1, (1, 20, 20)))
    if network.backbone.any_size:
        side = network.backbone.min_side
        assert network(make_images(1, (3, side, side + 30)))["logits"].shape == (1, NUM_CLASSES)
        with pytest.raises(ConfigError, match=f"at least {side}"):
            network(make_images(1, (3, side - 1, 20)))
    else:
        with pytest.raises(ConfigError, match="20x20"):
            network(make_images(1, (3, 20, 21)))


@pytest.mark.parametrize("name", NAMES)
def test_the_table_counts_every_number_once_and_leaves_the_network_alone(name: str) -> None:
    network = make_network(name, (3, 20, 20), learned_input=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    table = layer_table(network, 3, 20, 20)
    assert table.parameters == sum(row.parameters for row in table.rows)
    assert table.trainable == sum(row.trainable for row in table.rows) == count_parameters(network)[1]
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_unknown_knobs_are_refused_with_the_networks_own(name: str) -> None:
    entry = ENTRIES[name]
    foreign = {"filters": (3,), "kernel_size": 5, "dense": (3,), "conv_layers": 2, "downsample": "stride"}
    for option, value in foreign.items():
        if option not in entry.option_names:
            with pytest.raises(ConfigError, match=f"no option `{option}`") as caught:
                resolve_options(name, ModelConfig(**{option: value}))  # type: ignore[arg-type]
            assert all(own in str(caught.value) for own in entry.option_names)
    with pytest.raises(ConfigError, match="unknown setting"):
        build_backbone(ModelSpec(name=name, channels=3, height=20, width=20, options={"colour": 1}))


@pytest.mark.parametrize("name", NAMES)
def test_dropout_draws_in_training_only(name: str) -> None:
    shape = (3, 20, 20)
    options = resolve_options(name, ModelConfig(**(SMALL_KNOBS[name] | {"dropout": 0.5})))
    network = build_network(
        ModelSpec(name=name, channels=3, height=20, width=20, options=options), {"logits": 3}, seed=0
    )
    images = make_images(4, shape)
    assert not torch.equal(network(images)["logits"], network(images)["logits"])
    network.eval()
    assert torch.equal(network(images)["logits"], network(images)["logits"])
