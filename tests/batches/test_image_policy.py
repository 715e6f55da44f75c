"""torchvision's policies: equal to torchvision's own, and a function of (seed, epoch, sample)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2

from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.draws import Draws
from opsin.batches.image_policy import apply_policy, transform_of
from opsin.config import AugmentConfig
from opsin.errors import ConfigError

NUM = 24
RAND = AugmentConfig(policy="rand_augment")
TRIVIAL = AugmentConfig(policy="trivial_augment_wide")
EITHER = pytest.mark.parametrize("config", [RAND, TRIVIAL], ids=lambda config: config.policy)


def make_batch(channels: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (NUM, channels, 13, 11), dtype=torch.uint8, generator=generator)
    return Batch(images=images, index=torch.arange(100, 100 + NUM), labels=torch.arange(NUM) % 3)


def seen(batch: Batch, config: AugmentConfig, *, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return augment(batch, config, seed=seed, epoch=epoch, num_classes=3).images


@EITHER
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_gets_identical_pixels_in_whatever_batch_and_order_it_is(config, channels):
    batch = make_batch(channels)
    whole = seen(batch, config)
    for rows in (torch.arange(NUM).flip(0), torch.tensor([7]), torch.tensor([5, 2, 19])):
        part = replace(batch, images=batch.images[rows], index=batch.index[rows], labels=batch.labels[rows])
        assert torch.equal(seen(part, config), whole[rows])


@EITHER
@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_pictures_differ_by_seed_and_by_epoch(config, other):
    batch = make_batch()
    same = (seen(batch, config) == seen(batch, config, **other)).flatten(1).all(dim=1)
    assert int(same.sum()) < NUM / 3  # an operation may be the identity both times


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (RAND, v2.RandAugment()),
        (replace(RAND, policy_ops=3, policy_strength=0.5), v2.RandAugment(num_ops=3, magnitude=15)),
        (replace(RAND, policy_strength=1.0), v2.RandAugment(magnitude=30)),
        (TRIVIAL, v2.TrivialAugmentWide()),
    ],
)
def test_images_equal_torchvisions_under_the_same_state_of_the_generator(config, theirs):
    batch = make_batch()
    draws = Draws(seed=4, epoch=2, index=batch.index)
    got = apply_policy(batch.images.float(), config, draws)
    for image, source, seed in zip(got, batch.images, draws.seeds("policy/image"), strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            assert torch.equal(image, theirs(source).float())


@EITHER
def test_the_global_generator_is_left_as_it_was(config):
    before = torch.get_rng_state()
    seen(make_batch(), config)
    assert torch.equal(torch.get_rng_state(), before)


@EITHER
def test_the_global_generator_is_put_back_when_an_image_is_refused(config):
    before = torch.get_rng_state()
    with pytest.raises((TypeError, RuntimeError, ValueError)):
        apply_policy(torch.zeros(40, 5, 8, 8), config, Draws(seed=0, epoch=0, index=torch.arange(40)))
    assert torch.equal(torch.get_rng_state(), before)


@EITHER
def test_the_policy_comes_after_geometry_and_colour_and_before_cutout(config):
    batch, others = make_batch(), AugmentConfig(flip=0.5, rotate=10, brightness=0.3)
    draws = Draws(seed=0, epoch=0, index=batch.index)
    expected = apply_policy(seen(batch, others), config, draws)
    got = seen(batch, replace(others, policy=config.policy))
    assert torch.equal(got, expected)
    cut = seen(batch, replace(others, policy=config.policy, cutout=4))
    changed = (cut != expected).any(dim=1).flatten(1).sum(dim=1)
    assert int(changed.max()) <= 16


@EITHER
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_images_are_float_in_range_and_the_given_batch_is_not_changed(config, dtype):
    batch = make_batch()
    batch = replace(batch, images=batch.images.to(dtype))
    before = batch.images.clone()
    images = seen(batch, config)
    assert images.dtype == torch.float32
    assert 0 <= float(images.min()) <= float(images.max()) <= 255
    assert torch.equal(batch.images, before)


@EITHER
def test_boxes_and_masks_are_refused_with_the_policy_that_moves_them(config):
    batch = make_batch()
    boxed = replace(batch, boxes=torch.tensor([[1.0, 1, 5, 5]]).expand(NUM, 4))
    masked = replace(batch, masks=torch.zeros(NUM, 13, 11, dtype=torch.uint8))
    for other in (boxed, masked):
        with pytest.raises(ConfigError, match=config.policy) as refused:
            seen(other, config)
        assert "random_ops" in str(refused.value)


def test_the_strength_of_rand_augment_is_torchvisions_unless_another_is_set():
    assert transform_of(RAND).magnitude == v2.RandAugment().magnitude
    assert transform_of(RAND).num_ops == v2.RandAugment().num_ops
