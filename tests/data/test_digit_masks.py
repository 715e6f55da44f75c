"""Digit masks: what they hold, that they are the same every time, and that a mask covers its digit's ink."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.config import DataConfig
from opsin.data.load import load
from opsin.data.made.digit_masks import CANVAS_PX, make_mask_scenes
from opsin.data.made.digit_scenes import DIGIT_PX
from opsin.data.samples import numbered_ids
from opsin.data.sources import ArraySource
from opsin.errors import ConfigError


@pytest.fixture(scope="module")
def squares() -> ArraySource:
    """Digits that are full squares, so that a mask is a square too."""
    images = np.full((20, 1, DIGIT_PX, DIGIT_PX), 255, np.uint8)
    return ArraySource(images=images, labels=np.arange(20) % 10, ids=numbered_ids("digits", 20))


def test_every_scene_shows_two_digits_that_do_not_touch(squares: ArraySource) -> None:
    scenes = make_mask_scenes(squares, 10, seed=0, split="val")
    assert scenes.images.shape == (10, 3, CANVAS_PX, CANVAS_PX)
    assert scenes.masks is not None
    for image, mask in zip(scenes.images, scenes.masks, strict=True):
        classes = [k for k in np.unique(mask) if k]
        areas = [int((mask == k).sum()) for k in classes]
        assert len(classes) in (1, 2)
        assert sum(areas) >= 2 * 18**2
        for k in classes:
            assert len(np.unique(image[:, mask == k].T, axis=0)) > 0
    used = np.concatenate([np.unique(m)[1:] for m in scenes.masks])
    assert set(used) == set(range(1, 11))


def test_ink_stands_out_of_what_lies_around_it(squares: ArraySource) -> None:
    scenes = make_mask_scenes(squares, 10, seed=0, split="val")
    assert scenes.masks is not None
    distances = [
        np.abs(image[:, mask > 0].mean(1) - image[:, mask == 0].mean(1)).max()
        for image, mask in zip(scenes.images.astype(float), scenes.masks, strict=True)
    ]
    assert np.mean(distances) > 20


def test_a_smaller_set_is_the_beginning_of_a_larger_one() -> None:
    small, large = (load("digit_masks", config=DataConfig(scenes=n)).splits["train"] for n in (5, 9))
    for i in range(5):
        np.testing.assert_array_equal(small.image(i), large.image(i))
        np.testing.assert_array_equal(small.mask(i), large.mask(i))


def test_the_set_has_every_digit_as_a_class_or_one_foreground() -> None:
    every = load("digit_masks", config=DataConfig(scenes=30))
    assert every.classes == ("background", *"0123456789")
    assert set(np.unique(every.splits["train"].masks)) == set(range(11))
    front = load("digit_masks", config=DataConfig(scenes=30, classes="foreground"))
    assert front.classes == ("background", "foreground")
    np.testing.assert_array_equal(front.splits["train"].masks, every.splits["train"].masks > 0)


def test_settings_of_other_scenes_are_refused() -> None:
    with pytest.raises(ConfigError, match="scene_clutter"):
        load("digit_masks", config=DataConfig(scene_clutter=3))
