"""Fitting images, boxes and masks, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from opsin.ops.resize import fit_boxes, fit_image, fit_mask, place, unfit_boxes, unfit_mask
from opsin.types import VOID, FitName, SizePolicy

FITS: tuple[FitName, ...] = ("squash", "crop", "pad")
SIDES = st.integers(1, 60)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(40, 60), (64, 20), (100, 100), (7, 5)])
def test_squash_equals_pillows_antialiased_bilinear(shape: tuple[int, int]) -> None:
    pixels = random_image(*shape)
    expected = Image.fromarray(pixels.transpose(1, 2, 0)).resize((24, 16), Image.Resampling.BILINEAR)
    fitted = fit_image(pixels, SizePolicy(height=16, width=24))
    assert np.abs(fitted.astype(int) - np.asarray(expected).transpose(2, 0, 1)).max() <= 1


def test_an_image_that_fits_is_untouched() -> None:
    pixels = random_image(8, 6)
    for fit in FITS:
        assert fit_image(pixels, SizePolicy(height=8, width=6, fit=fit)) is pixels


def test_halving_takes_the_mean_of_what_is_under_the_filter() -> None:
    flat = np.full((1, 4, 4), 100, np.uint8)
    assert (fit_image(flat, SizePolicy(height=2, width=2)) == 100).all()


def test_pad_puts_black_around_and_crop_cuts_the_sides() -> None:
    white = np.full((3, 10, 20), 255, np.uint8)
    padded = fit_image(white, SizePolicy(height=20, width=20, fit="pad"))
    assert (padded[:, 5:15] == 255).all()
    assert not padded[:, :5].any()
    assert not padded[:, 15:].any()
    stripes = np.repeat(np.array([0] * 5 + [200] * 10 + [0] * 5, np.uint8)[None, None], 10, 1)
    assert (fit_image(stripes, SizePolicy(height=10, width=10, fit="crop")) == 200).all()


def test_boxes_worked_by_hand() -> None:
    box = np.array([[10, 20, 50, 60]], np.float32)
    squash = fit_boxes(box, 100, 200, SizePolicy(height=50, width=50))
    pad = fit_boxes(box, 100, 200, SizePolicy(height=50, width=50, fit="pad"))
    crop = fit_boxes(box, 100, 200, SizePolicy(height=50, width=50, fit="crop"))
    assert squash.tolist() == [[2.5, 10, 12.5, 30]]
    assert pad.tolist() == [[2.5, 17, 12.5, 27]]
    assert crop.tolist() == [[-20, 10, 0, 30]]


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(FITS))
def test_every_shape_fits_and_boxes_come_back(h: int, w: int, height: int, width: int, fit: FitName) -> None:
    policy = SizePolicy(height=height, width=width, fit=fit)
    assert fit_image(random_image(h, w), policy).shape == (3, height, width)
    box = np.array([0, 0, w, h], np.float32)
    np.testing.assert_allclose(unfit_boxes(fit_boxes(box, h, w, policy), h, w, policy), box, atol=1e-3)
    assert fit_mask(np.zeros((h, w), np.uint8), policy).shape == (height, width)


@pytest.mark.parametrize("fit", FITS)
def test_boxes_masks_and_images_agree(fit: FitName) -> None:
    image = np.zeros((1, 40, 80), np.uint8)
    image[:, 10:30, 30:50] = 255
    policy = SizePolicy(height=32, width=32, fit=fit)
    seen = fit_image(image, policy)[0] > 127
    masked = fit_mask((image[0] > 0).astype(np.uint8), policy) == 1
    x1, y1, x2, y2 = fit_boxes(np.array([30, 10, 50, 30], np.float32), 40, 80, policy)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert abs(rows[0] - y1) <= 1
    assert abs(rows[-1] + 1 - y2) <= 1
    assert abs(columns[0] - x1) <= 1
    assert abs(columns[-1] + 1 - x2) <= 1
    assert (seen == masked).mean() > 0.95


def test_a_mask_comes_back_after_enlarging_and_pad_is_void() -> None:
    mask = np.random.default_rng(1).integers(0, 5, (10, 20), dtype=np.uint8)
    policy = SizePolicy(height=60, width=60, fit="pad")
    fitted = fit_mask(mask, policy)
    assert (fitted[:15] == VOID).all()
    np.testing.assert_array_equal(unfit_mask(fitted, 10, 20, policy), mask)


def test_what_a_crop_cut_from_a_mask_comes_back_as_void() -> None:
    policy = SizePolicy(height=10, width=10, fit="crop")
    back = unfit_mask(fit_mask(np.ones((10, 20), np.uint8), policy), 10, 20, policy)
    assert (back[:, :5] == VOID).all()
    assert (back[:, 5:15] == 1).all()
    assert (back[:, 15:] == VOID).all()


def test_a_sliver_keeps_at_least_one_pixel() -> None:
    placement = place(1, 1000, SizePolicy(height=8, width=8, fit="pad"))
    assert (placement.height, placement.width) == (1, 8)


def test_a_read_only_image_is_resized_without_a_word():
    pixels = np.zeros((3, 8, 8), np.uint8)
    pixels.setflags(write=False)
    assert fit_image(pixels, SizePolicy(height=4, width=4)).shape == (3, 4, 4)
