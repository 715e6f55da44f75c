"""Colours against torchvision, image by image, and identities at zero change."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional

from opsin.batches import colour
from opsin.batches.draws import Draws
from opsin.batches.policy import POLICY, POLICY_SIDES, knobs_of
from opsin.config import AugmentConfig

NUM = 12


def noise(channels=3, num=NUM):
    return torch.rand(num, channels, 9, 11, generator=torch.Generator().manual_seed(0)) * 255


def per_image(numbers):
    return torch.tensor(numbers, dtype=torch.float32)[:, None, None, None]


FACTORS = torch.linspace(0.1, 1.9, NUM).tolist()
PAIRS = {
    "brighten": (colour.brighten, functional.adjust_brightness),
    "contrast": (colour.change_contrast, functional.adjust_contrast),
    "saturate": (colour.saturate, functional.adjust_saturation),
}


@pytest.mark.parametrize("name", PAIRS)
def test_factors_equal_torchvision(name):
    ours, theirs = PAIRS[name]
    got = ours(noise(), per_image(FACTORS)) / 255
    for one, image, factor in zip(got, noise() / 255, FACTORS, strict=True):
        # torchvision's luma has coefficients of four digits, and ours takes the mean of whole pixel values.
        assert torch.allclose(one, theirs(image, factor), atol=2e-3)


def test_hue_equals_torchvision():
    turns = torch.linspace(-0.5, 0.5, NUM).tolist()
    got = colour.turn_hue(noise(), per_image(turns)) / 255
    for one, image, turn in zip(got, noise() / 255, turns, strict=True):
        assert torch.allclose(one, functional.adjust_hue(image, turn), atol=1e-4)


def test_a_third_of_a_turn_makes_red_green():
    red = torch.tensor([200.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert torch.allclose(
        colour.turn_hue(red, per_image([1 / 3])).flatten(), torch.tensor([0.0, 200.0, 0.0]), atol=1e-3
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_equals_torchvision(channels):
    sigma = torch.linspace(0.3, 1.0, NUM, dtype=torch.float64)
    got = colour.blur(noise(channels), sigma, 1.0)
    for one, image, s in zip(got, noise(channels), sigma.tolist(), strict=True):
        assert torch.allclose(one, functional.gaussian_blur(image, [7, 7], [s, s]), atol=1e-3)


def test_blur_of_images_smaller_than_its_kernel_keeps_a_flat_image_flat():
    flat = torch.full((2, 1, 3, 2), 80.0)
    assert torch.allclose(colour.blur(flat, torch.tensor([2.0, 0.5], dtype=torch.float64), 2.0), flat)


def test_no_change_leaves_the_pixels_as_they_are():
    one, zero = per_image([1.0] * NUM), torch.zeros(NUM, dtype=torch.float64)
    assert torch.equal(colour.brighten(noise(), one), noise())
    assert torch.equal(colour.change_contrast(noise(), one), noise())
    assert torch.equal(colour.saturate(noise(), one), noise())
    assert torch.equal(colour.blur(noise(), zero, 1.0), noise())
    assert torch.allclose(colour.turn_hue(noise(), zero[:, None, None, None].float()), noise(), atol=1e-3)


def test_contrast_of_grey_images_keeps_their_mean():
    images = noise(1) * 0.2 + 100
    changed = colour.change_contrast(images.clone(), per_image([1.5] * NUM))
    assert torch.allclose(changed.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=0.1)
    assert torch.allclose(changed.std((1, 2, 3)), 1.5 * images.std((1, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_ops", [1, 2, 5])
def test_the_policy_turns_up_as_many_knobs_of_each_image_as_it_is_told(num_ops, channels):
    draws = Draws(seed=0, epoch=0, index=torch.arange(2000))
    config = AugmentConfig(policy="random_ops", policy_ops=num_ops)
    knobs = knobs_of(config, draws, channels=channels, side=32)
    on = torch.stack([knob > 0 for knob in knobs.values()])
    assert bool((on.sum(dim=0) == num_ops).all())
    names = set(POLICY) | set(POLICY_SIDES)
    assert set(knobs) == (names if channels == 3 else names - {"saturation"})
    share = on.double().mean(dim=1)
    assert float((share - num_ops / len(knobs)).abs().max()) < 0.05


def test_the_policy_scales_with_strength_and_never_lowers_a_setting():
    draws = Draws(seed=0, epoch=0, index=torch.arange(500))
    config = AugmentConfig(policy="random_ops", policy_strength=0.5, rotate=20.0, cutout=6)
    knobs = knobs_of(config, draws, channels=3, side=32)
    assert set(knobs["rotate"].tolist()) == {20.0}
    assert set(knobs["cutout"].tolist()) == {6.0, 8.0}
    assert set(knobs["shift"].tolist()) == {0.0, 5.0}
    assert set(knobs["shear"].tolist()) == {0.0, 8.5}
