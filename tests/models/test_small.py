"""Our small-image network: whitening, and the learned normalization of the input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from opsin.config import ModelConfig
from opsin.errors import ConfigError
from opsin.models.architectures.small import Small, SmallOptions, Whiten
from opsin.models.building import build_network
from opsin.models.parts.layers import SMALLEST_SIDES
from opsin.models.registry import ModelSpec, resolve_options


def smooth_images(num: int, channels: int, side: int) -> Tensor:
    """Images whose neighbouring pixels and channels are correlated, as in photographs."""
    noise = torch.randn(num, 1, side, side, generator=torch.Generator().manual_seed(2))
    own = torch.randn(num, channels, side, side, generator=torch.Generator().manual_seed(3))
    return nn.functional.avg_pool2d(noise + 0.5 * own, 3, stride=1)


def patches_of(images: Tensor, side: int) -> np.ndarray:
    """All patches as rows, in the order of the filters' weights: [N * positions, C * side * side]."""
    windows = sliding_window_view(images.numpy().astype(np.float64), (side, side), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * side * side)


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_have_unit_covariance(channels: int) -> None:
    images = smooth_images(60, channels, 16)
    whiten = Whiten(channels)
    whiten.init_from_data(images)
    half = whiten.out_channels // 2
    outputs = whiten(images)[:, :half].double().transpose(0, 1).flatten(1).numpy()
    values = np.linalg.eigvalsh(np.cov(patches_of(images, whiten.kernel_size[0]).T))[::-1]
    expected = values / (values + 5e-4)  # the floor under small variances takes its share
    np.testing.assert_allclose(np.cov(outputs), np.diag(expected), atol=1e-4)
    assert torch.equal(whiten.weight[:half], -whiten.weight[half:])


def test_whitening_of_a_hand_worked_pair_of_pixels() -> None:
    # two channels, 1x1 patches: (1, 1), (-1, -1), (1, -1), (-1, 1) scaled to variances 4 along (1, 1) and 1 across
    points = torch.tensor([[2.0, 2.0], [-2.0, -2.0], [1.0, -1.0], [-1.0, 1.0]])
    whiten = Whiten(2, side=1)
    whiten.init_from_data(points[:, :, None, None])
    # covariance (divided by n - 1 = 3) is [[10, 6], [6, 10]] / 3: variances 16/3 along (1, 1), 4/3 along (1, -1)
    first, second = whiten.weight[:2].flatten(1).abs()
    torch.testing.assert_close(first, torch.full((2,), 0.5**0.5 / (16 / 3 + 5e-4) ** 0.5))
    torch.testing.assert_close(second, torch.full((2,), 0.5**0.5 / (4 / 3 + 5e-4) ** 0.5))


def test_constant_images_do_not_blow_up_the_whitening() -> None:
    whiten = Whiten(3)
    whiten.init_from_data(torch.full((4, 3, 8, 8), 2.5))
    assert whiten.weight.isfinite().all()
    assert whiten.weight.abs().max() <= 5e-4**-0.5 + 1e-3


def test_whitening_is_frozen_and_leaves_the_rest_as_it_was() -> None:
    first = build_network(ModelSpec(name="small", channels=3, height=32, width=32), {"logits": 2}, seed=0)
    second = build_network(ModelSpec(name="small", channels=3, height=32, width=32), {"logits": 2}, seed=0)
    second.init_from_data(smooth_images(8, 3, 32))
    changed = [key for key, value in first.state_dict().items() if not torch.equal(value, second.state_dict()[key])]
    assert changed == ["backbone.whiten.weight"]
    assert not second.get_parameter("backbone.whiten.weight").requires_grad


def test_features_do_not_depend_on_where_the_network_was_built_for() -> None:
    network = build_network(ModelSpec(name="small", channels=3, height=32, width=32), {"logits": 2}, seed=0).eval()
    other = build_network(ModelSpec(name="small", channels=3, height=48, width=40), {"logits": 2}, seed=0).eval()
    images = smooth_images(2, 3, 26)
    assert torch.equal(network(images)["logits"], other(images)["logits"])


def test_the_widths_are_a_knob_and_there_is_at_least_one() -> None:
    options = resolve_options("small", ModelConfig(filters=(8, 16)))
    assert options["filters"] == [8, 16]
    assert Small(3, 32, 32, SmallOptions(filters=(8, 16))).num_features == 16
    with pytest.raises(ConfigError, match="one width or more"):
        SmallOptions(filters=())


def test_a_learned_input_starts_by_standardizing_the_training_images() -> None:
    spec = ModelSpec(name="plain", channels=3, height=16, width=16, options={"learned_input": True})
    network = build_network(spec, {"logits": 2}, seed=0)
    images = 50 + 30 * smooth_images(40, 3, 18)
    network.init_from_data(images)
    normed = network.eval().normalize(images)
    np.testing.assert_allclose(normed.mean((0, 2, 3)).detach(), 0, atol=1e-4)
    np.testing.assert_allclose(normed.std((0, 2, 3)).detach(), 1, atol=1e-4)
    assert network.get_parameter("normalize.weight").requires_grad


def test_whitening_sees_what_the_learned_input_gives() -> None:
    images = smooth_images(40, 3, 18)
    standard = (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)
    spec = ModelSpec(name="small", channels=3, height=18, width=18, options={"learned_input": True})
    network = build_network(spec, {"logits": 2}, seed=0)
    network.init_from_data(images * 40 + 100)
    whiten = Whiten(3)
    whiten.init_from_data(standard)
    given = network.get_parameter("backbone.whiten.weight")
    torch.testing.assert_close(given.abs(), whiten.weight.abs(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "seresnet50", "mobilenet_v2", "efficientnet_lite0"])
def test_images_that_a_published_network_would_halve_to_padding_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="at least 17 pixels") as refused:
        build_network(ModelSpec(name=name, channels=3, height=7, width=7), {"logits": 4})
    assert "--stem small" in str(refused.value)
    small = ModelSpec(name=name, channels=3, height=7, width=7, options={"stem": "small", "width": 0.25})
    assert build_network(small, {"logits": 4}, seed=0)(torch.zeros(2, 3, 7, 7))["logits"].shape == (2, 4)


def test_a_refusal_of_small_images_names_networks_that_take_them() -> None:
    with pytest.raises(ConfigError, match="--model plain or tiny or dense"):
        build_network(ModelSpec(name="small", channels=3, height=8, width=8), {"logits": 4})


@pytest.mark.parametrize(("name", "side"), SMALLEST_SIDES.items())
def test_the_smallest_sides_that_are_named_are_true(name: str, side: int) -> None:
    def logits(side: int) -> Tensor:
        options = resolve_options(name, ModelConfig(), learned_input=False)
        spec = ModelSpec(name=name, channels=3, height=side, width=side, options=options)
        outputs: dict[str, Tensor] = build_network(spec, {"logits": 4}, seed=0)(torch.zeros(2, 3, side, side))
        return outputs["logits"]

    assert logits(side).shape == (2, 4)
    if side > 1:
        with pytest.raises(ConfigError, match="too small"):
            logits(side - 1)
