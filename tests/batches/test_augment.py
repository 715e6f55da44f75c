"""Augmentation as a whole: a function of (seed, epoch, sample), off by default, refusing what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.config import AugmentConfig
from opsin.errors import ConfigError

EVERYTHING = AugmentConfig(
    flip=0.5, flip_vertical=0.5, shift=2, rotate=20, scale=0.2, shear=10, crop_area=0.5, brightness=0.3, contrast=0.3,
    saturation=0.3, hue=0.1, blur=1.0, cutout=4, policy="random_ops",
)  # fmt: skip
COPIED = AugmentConfig(flip=0.5, flip_vertical=0.5, shift=3, cutout=5)


def make_batch(num_samples=24, channels=3, height=13, width=11, targets=True) -> Batch:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(num_samples, 2, generator=generator) * 5
    return Batch(
        images=torch.randint(0, 256, (num_samples, channels, height, width), dtype=torch.uint8, generator=generator),
        index=torch.arange(100, 100 + num_samples),
        labels=torch.arange(num_samples) % 3,
        boxes=torch.cat([corners, corners + 4], dim=1) if targets else None,
        masks=torch.randint(0, 3, (num_samples, height, width), dtype=torch.uint8, generator=generator)
        if targets
        else None,
    )


def take(batch: Batch, rows) -> Batch:
    rows = torch.as_tensor(rows)
    targets = {name: getattr(batch, name) for name in ("labels", "boxes", "masks")}
    picked = {name: None if value is None else value[rows] for name, value in targets.items()}
    return replace(batch, images=batch.images[rows], index=batch.index[rows], **picked)


def run(batch, config, *, seed=0, epoch=0) -> Batch:
    return augment(batch, config, seed=seed, epoch=epoch, num_classes=3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fill", ["reflect", "black"])
@pytest.mark.parametrize("config", [EVERYTHING, COPIED], ids=["everything", "copied"])
def test_a_sample_gets_identical_pixels_in_whatever_batch_it_is(config, fill, channels):
    colour = {} if channels == 3 else {"saturation": 0.0, "hue": 0.0}
    config = replace(config, shift_fill=fill, **colour)
    batch = make_batch(channels=channels)
    whole = run(batch, config)

    @settings(max_examples=12, deadline=None, database=None)
    @given(st.lists(st.integers(0, 23), min_size=1, max_size=24, unique=True))
    def check(rows):
        part = run(take(batch, rows), config)
        assert torch.equal(part.images, whole.images[rows])
        assert torch.equal(part.boxes, whole.boxes[rows])
        assert torch.equal(part.masks, whole.masks[rows])

    check()


def test_threads_change_nothing():
    batch = make_batch(64, height=40, width=40)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(batch, EVERYTHING)
        torch.set_num_threads(2)
        two = run(batch, EVERYTHING)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one.images, two.images)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_pictures_differ_by_seed_and_by_epoch_and_repeat(other):
    batch = make_batch()
    first = run(batch, EVERYTHING)
    assert torch.equal(first.images, run(batch, EVERYTHING).images)
    same = (first.images == run(batch, EVERYTHING, **other).images).flatten(1).all(dim=1)
    assert not same.any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("config", [AugmentConfig(), EVERYTHING, COPIED, AugmentConfig(brightness=0.5)])
def test_images_are_float_in_range_and_the_given_batch_is_not_changed(config, dtype):
    batch = make_batch()
    batch = replace(batch, images=batch.images.to(dtype))
    before = batch.images.clone()
    images = run(batch, config).images
    assert images.dtype == torch.float32
    assert images.shape == before.shape
    assert 0 <= float(images.min()) <= float(images.max()) <= 255
    assert torch.equal(batch.images, before)


def test_nothing_is_changed_when_everything_is_off():
    batch = make_batch()
    seen = run(batch, AugmentConfig())
    assert torch.equal(seen.images, batch.images.float())
    assert torch.equal(seen.boxes, batch.boxes)
    assert torch.equal(seen.masks, batch.masks)
    assert seen.mixed is None


@pytest.mark.parametrize("fill", ["reflect", "black"])
def test_images_boxes_and_masks_move_together(fill):
    """A drawn rectangle is where its box and its mask say, after everything that moves pixels."""
    config = AugmentConfig(
        flip=0.5, flip_vertical=0.5, shift=3, rotate=25, scale=0.2, shear=10, crop_area=0.7, shift_fill=fill
    )
    num, H, W = 40, 48, 56
    images, masks = torch.zeros(num, 3, H, W, dtype=torch.uint8), torch.zeros(num, H, W, dtype=torch.uint8)
    images[:, :, 20:29, 24:40] = 255
    masks[:, 20:29, 24:40] = 1
    boxes = torch.tensor([[24.0, 20.0, 40.0, 29.0]]).expand(num, 4)
    seen = run(Batch(images=images, index=torch.arange(num), masks=masks, boxes=boxes), config)
    moved = 0
    for image, mask, box in zip(seen.images, seen.masks, seen.boxes, strict=True):
        bright = image[0] > 127.5
        inside = mask == 1
        assert int((bright != inside).sum()) <= 0.06 * int(inside.sum()) + 4
        x1, y1, x2, y2 = box.tolist()
        if min(x1, y1) <= 0 or x2 >= W or y2 >= H:
            continue
        moved += 1
        rows, columns = torch.where(inside)
        assert abs(float(columns.min()) - x1) <= 1.6
        assert abs(float(columns.max()) + 1 - x2) <= 1.6
        assert abs(float(rows.min()) - y1) <= 1.6
        assert abs(float(rows.max()) + 1 - y2) <= 1.6
    assert moved >= 20


def test_what_enters_from_outside_is_black_and_void_or_reflected():
    batch = replace(make_batch(num_samples=200), images=torch.full((200, 3, 13, 11), 200, dtype=torch.uint8))
    for config in (AugmentConfig(shift=4), AugmentConfig(shift=4, rotate=15)):
        reflected = run(batch, config)
        assert torch.allclose(reflected.images, torch.tensor(200.0))
        assert int(reflected.masks.max()) <= 2
        black = run(batch, replace(config, shift_fill="black"))
        void = (black.masks == 255)[:, None].expand(-1, 3, -1, -1)
        assert bool(void.any())
        assert float(black.images[void].max()) <= 101  # at most half of the last pixel reaches over the edge
        if not config.rotate:
            assert torch.equal(void, black.images == 0)


@pytest.mark.parametrize(
    "settings_",
    [{"shift": 11}, {"cutout": 12}, {"mixup": 0.2}, {"cutmix": 1.0}, {"policy": "random_ops", "policy_ops": 10}],
    ids=str,
)
def test_settings_that_do_not_fit_the_batch_are_refused(settings_):
    with pytest.raises(ConfigError, match=next(iter(settings_)) if "policy" not in settings_ else "policy_ops"):
        run(make_batch(), AugmentConfig(**settings_))


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_colour_changes_of_grey_images_are_refused(name):
    with pytest.raises(ConfigError, match=name):
        run(make_batch(channels=1), AugmentConfig(**{name: 0.1}))


def test_mixing_needs_labels_and_two_classes():
    batch = make_batch(targets=False)
    with pytest.raises(ConfigError, match="mixup"):
        run(replace(batch, labels=None), AugmentConfig(mixup=0.2))
    with pytest.raises(ConfigError, match="cutmix"):
        augment(batch, AugmentConfig(cutmix=1.0), seed=0, epoch=0, num_classes=1)
