"""How much of an upsampling's grid is left in what it made: its checkerboard, measured.

A layer that makes maps p times as large treats the p pixels that come from one differently, at every such place alike.
What it leaves behind repeats with period p: in the spectrum of the logits it is a line at the frequency 1/p (and at its
multiples) that stands out of its neighbours, and the edges of a mask lie at some places of the grid more often than at
others. Photos have no such lines: where nothing repeats, a spectrum changes slowly from frequency to frequency.

Source: Odena et al. 2016, "Deconvolution and checkerboard artifacts", Distill, for the phenomenon.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GUARD_BINS = 2
"""Bins beside a line that its own width covers: the window spreads a line over them."""
NEIGHBOUR_BINS = 6


def power_spectrum(maps: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Mean power of rows and columns over spatial frequency.

    Args:
        maps: float [N, S, S], S a multiple of the largest period that is asked for.

    Returns:
        Frequencies in cycles a pixel, float64 [S / 2 + 1], 0 to 1/2, and the power at each.

    Raises:
        ValueError: the maps are not square.
    """
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2]:
        raise ValueError(f"square maps [N, S, S] are needed, not {maps.shape}")
    side = maps.shape[2]
    window = np.hanning(side + 1)[:-1]
    power = np.zeros(side // 2 + 1)
    for lines in (maps, maps.transpose(0, 2, 1)):
        centred = lines.astype(np.float64) - lines.mean(axis=2, keepdims=True, dtype=np.float64)
        power += (np.abs(np.fft.rfft(centred * window, axis=2)) ** 2).mean(axis=(0, 1)) / 2
    return np.asarray(np.fft.rfftfreq(side), np.float64), power


def line_excess(frequencies: Floats, power: Floats, period: int) -> float:
    """By how many decibels the power at the frequency 1 / period stands above what its neighbours lead to expect.

    That is a straight line through the neighbours' decibels: spectra of photos fall, and a fall is no line. 0 is no
    line; 10 is ten times the power; NaN where some neighbour has no power at all. At 1/2 there are neighbours on one
    side alone, and interpolation leaves no power there, so that it comes out negative.

    Args:
        frequencies, power: of `power_spectrum`.
        period: pixels, 2 or more; 1 / period is one of the frequencies.
    """
    place = int(np.abs(frequencies - 1 / period).argmin())
    offsets = np.arange(len(power)) - place
    near = (np.abs(offsets) > GUARD_BINS) & (np.abs(offsets) <= GUARD_BINS + NEIGHBOUR_BINS) & (frequencies > 0)
    if near.sum() < 2 or not (power[near] > 0).all() or power[place] <= 0:
        return float("nan")
    _, expected = np.polyfit(offsets[near], 10 * np.log10(power[near]), 1)
    return float(10 * np.log10(power[place]) - expected)


def edge_phase(masks: NDArray[np.integer], period: int) -> float:
    """How strongly a mask's edges keep to one place of a grid: 0 is not at all, 1 is always.

    The length of the mean of exp(2 pi i x / period) over all places x at which neighbours in a row differ; likewise
    for columns, and the mean of the two. NaN where there is no edge.

    >>> round(edge_phase(np.repeat(np.arange(8) % 2, 4)[None, None].repeat(4, axis=1), 4), 6)
    1.0

    Args:
        masks: class numbers [N, H, W].
        period: pixels.
    """
    found = []
    for lines in (masks, masks.transpose(0, 2, 1)):
        places = np.nonzero(lines[:, :, 1:] != lines[:, :, :-1])[2] + 1
        if len(places):
            found.append(abs(np.exp(2j * np.pi * places / period).mean()))
    return float(np.mean(found)) if found else float("nan")
