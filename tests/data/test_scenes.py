"""Digit scenes: what they hold, where, and that they are the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.config import DataConfig
from opsin.data.load import load
from opsin.data.made.digit_scenes import CANVAS_PX, DIGIT_PX, SceneOptions, make_scenes
from opsin.data.samples import numbered_ids
from opsin.data.sources import ArraySource
from opsin.errors import ConfigError


@pytest.fixture(scope="module")
def digits() -> ArraySource:
    """Full squares, each of its own grey, so that a scene shows where its digit lies."""
    images = np.full((20, 1, DIGIT_PX, DIGIT_PX), 200, np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None]
    return ArraySource(images=images, labels=np.arange(20) % 10, ids=numbered_ids("digits", 20))


def ink_boxes(images: np.ndarray, threshold: int = 199) -> np.ndarray:
    """Tight boxes around what is brighter than the threshold, [N, 4]."""
    boxes = []
    for canvas in images[:, 0] > threshold:
        rows, columns = np.flatnonzero(canvas.any(axis=1)), np.flatnonzero(canvas.any(axis=0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return np.array(boxes, np.float32)


def test_a_box_is_where_its_digit_was_drawn(digits: ArraySource) -> None:
    scenes = make_scenes(digits, 200, SceneOptions(), seed=0, split="train")
    assert scenes.images.shape == (200, 1, CANVAS_PX, CANVAS_PX)
    np.testing.assert_array_equal(scenes.boxes, ink_boxes(scenes.images))


@pytest.mark.parametrize("options", [SceneOptions(scale=0.5), SceneOptions(outside=0.4), SceneOptions(clutter=5)])
def test_harder_scenes_keep_their_boxes_exact(digits: ArraySource, options: SceneOptions) -> None:
    scenes = make_scenes(digits, 100, options, seed=0, split="train")
    assert scenes.boxes is not None
    for image, box in zip(scenes.images[:, 0], scenes.boxes.astype(int), strict=True):
        assert (image[box[1] : box[3], box[0] : box[2]] >= 200).all()
    if not options.clutter:
        np.testing.assert_array_equal(scenes.boxes, ink_boxes(scenes.images))


def test_places_cover_the_whole_canvas_evenly(digits: ArraySource) -> None:
    scenes = make_scenes(digits, 3000, SceneOptions(), seed=0, split="train")
    assert scenes.boxes is not None
    corners = scenes.boxes[:, :2]
    assert corners.min() == 0
    assert corners.max() == CANVAS_PX - DIGIT_PX
    np.testing.assert_allclose(corners.mean(axis=0), (CANVAS_PX - DIGIT_PX) / 2, atol=1)


def test_outside_digits_reach_over_the_edge_by_no_more_than_was_asked_for(digits: ArraySource) -> None:
    boxes = make_scenes(digits, 1000, SceneOptions(outside=0.25), seed=0, split="train").boxes
    assert boxes is not None
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() == DIGIT_PX - DIGIT_PX // 4
    assert (boxes >= 0).all()
    assert (boxes <= CANVAS_PX).all()


def test_noise_has_the_deviation_that_was_asked_for(digits: ArraySource) -> None:
    plain = make_scenes(digits, 20, SceneOptions(), seed=0, split="train").images.astype(float)
    noisy = make_scenes(digits, 20, SceneOptions(noise=10), seed=0, split="train").images.astype(float)
    inside = plain > 0
    assert (noisy - plain)[inside].std() == pytest.approx(10, rel=0.05)


def test_a_scene_depends_on_seed_split_and_number_alone(digits: ArraySource) -> None:
    options = SceneOptions(clutter=3, scale=0.2, noise=5, outside=0.2)
    many = make_scenes(digits, 50, options, seed=1, split="train")
    few = make_scenes(digits, 10, options, seed=1, split="train")
    np.testing.assert_array_equal(many.images[:10], few.images)
    assert (make_scenes(digits, 10, options, seed=2, split="train").images != few.images).any()
    assert (make_scenes(digits, 10, options, seed=1, split="val").images != few.images).any()


def test_digits_are_used_equally_often(digits: ArraySource) -> None:
    labels = make_scenes(digits, 100, SceneOptions(), seed=0, split="train").labels
    assert np.bincount(labels).tolist() == [10] * 10


def test_the_catalogue_entry_needs_no_files_and_says_which_digits_it_took() -> None:
    dataset = load("digit_scenes", root="/nowhere", config=DataConfig(scenes=50))
    assert dataset.task == "localize"
    assert dataset.size == (CANVAS_PX, CANVAS_PX)
    assert len(dataset.splits["train"]) == 50
    assert len(dataset.splits["val"]) == len(dataset.splits["test"]) == 180
    assert any("no MNIST under /nowhere" in note for note in dataset.notes)


def test_settings_of_scenes_are_refused_for_other_sets() -> None:
    with pytest.raises(ConfigError, match="scene_noise"):
        load("digits", config=DataConfig(scene_noise=3))
