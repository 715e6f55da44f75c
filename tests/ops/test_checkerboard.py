"""The measure of checkerboards finds a grid that was put in, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.ops.checkerboard import edge_phase, line_excess, power_spectrum


def smooth(num: int = 12, side: int = 96) -> np.ndarray:
    """Maps like logits of a photo: noise whose power falls with frequency."""
    noise = np.random.default_rng(0).normal(size=(num, side, side))
    y, x = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]
    return np.fft.ifft2(np.fft.fft2(noise) / (0.02 + np.hypot(y, x))).real


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_grid_stands_out_at_its_period_and_nothing_does_without_one(period: int) -> None:
    maps = smooth()
    without = line_excess(*power_spectrum(maps), period)
    grid = np.cos(2 * np.pi * np.arange(96) / period)
    with_grid = line_excess(*power_spectrum(maps + maps.std() * grid), period)
    assert abs(without) < 1.5
    assert with_grid > 6


def test_the_power_of_a_wave_worked_by_hand_lies_at_its_frequency() -> None:
    wave = np.tile(np.cos(2 * np.pi * np.arange(64) / 4), (1, 64, 1))
    frequencies, power = power_spectrum(wave)
    assert frequencies[power.argmax()] == 0.25
    # along the rows a Hann window of 64 leaves (64 / 4)^2 of the wave's line; the columns are constant; mean of the two
    assert power.max() == pytest.approx(16**2 / 2)


def test_doubling_a_power_is_three_decibels() -> None:
    frequencies, power = np.linspace(0, 0.5, 65), np.ones(65)
    power[32] = 2
    assert line_excess(frequencies, power, 4) == pytest.approx(3.0103, abs=1e-4)


def test_edges_anywhere_keep_to_no_grid() -> None:
    masks = (smooth(60) > 0).astype(np.uint8)
    assert edge_phase(masks, 4) < 0.05
    coarse = masks[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2)
    assert edge_phase(coarse, 4) == pytest.approx(1)


def test_masks_without_an_edge_have_no_phase() -> None:
    assert np.isnan(edge_phase(np.zeros((2, 8, 8), np.uint8), 2))


def test_maps_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        power_spectrum(np.zeros((1, 8, 9)))
