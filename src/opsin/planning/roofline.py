"""The roofline figure of `opsin bench conv`, with the times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opsin.figures import figure_to
from opsin.planning.bench import ConvBench, Roof, Timing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = {"channels first": "o", "channels last": "s"}


def draw_roofline(bench: ConvBench, path: Path) -> None:
    """Write the figure as a PNG: the roofs with the convolutions under them, and milliseconds for each image."""
    timed = [timing for timing in bench.results if timing.median_s is not None]
    with figure_to(path, 12, 5) as figure:
        left, right = figure.subplots(1, 2)
        for number, roof in enumerate(bench.roofs):
            mine = [t for t in timed if (t.device, t.precision) == (roof.device, roof.precision)]
            _draw_roof(left, roof, mine, COLOURS[number % len(COLOURS)])
        left.set(xscale="log", yscale="log")
        left.set(
            xlabel="arithmetic intensity (operations for each byte moved)", ylabel="billions of operations per second"
        )
        left.set_title("Roofline: each convolution against the peak of the device")
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=8)
        _draw_times(right, timed)
        figure.suptitle("Convolution of 32 filters 7x7x3: speed by batch size, memory format and precision")


def _draw_roof(axis: Axes, roof: Roof, timings: list[Timing], colour: str) -> None:
    """The two bounds of a device, and its convolutions; hollow marks are small batches."""
    ridge = roof.flops_per_second / roof.bytes_per_second
    intensities = [timing.intensity for timing in timings]
    ends = np.array([min([ridge, *intensities]) / 4, ridge, max([ridge, *intensities]) * 4])
    roofs = np.minimum(ends * roof.bytes_per_second, roof.flops_per_second) / 1e9
    axis.plot(ends, roofs, color=colour, label=f"{roof.device}, {roof.precision}: bound by memory, then arithmetic")
    largest = max((timing.batch for timing in timings), default=0)
    for timing in timings:
        axis.plot(
            timing.intensity,
            (timing.flops_per_second or 0.0) / 1e9,
            MARKERS[timing.memory_format],
            color=colour,
            markersize=9,
            markerfacecolor=colour if timing.batch == largest else "white",
            label=f"batch of {timing.batch}, {timing.memory_format}",
        )


def _draw_times(axis: Axes, timings: list[Timing]) -> None:
    """Milliseconds for each image with quartiles; below, the overhead share of a call."""
    names, places = [], range(len(timings))
    for place, timing in zip(places, timings, strict=True):
        milliseconds = [1e3 * (value or 0.0) / timing.batch for value in (timing.low_s, timing.median_s, timing.high_s)]
        low, median, high = milliseconds
        axis.barh(place, median, color="#9ab8d0", height=0.6)
        axis.errorbar(median, place, xerr=[[median - low], [high - median]], color="black", capsize=3)
        if timing.bound_s is not None:
            axis.plot(
                1e3 * timing.bound_s / timing.batch, place, "|", color="#d55e00", markersize=16, markeredgewidth=2
            )
        names.append(f"{timing.device}, {timing.precision}\n{timing.batch} images, {timing.memory_format}")
    axis.set_yticks(list(places), names)
    axis.invert_yaxis()
    axis.set_xlabel("ms per image: median, quartiles; orange: the roof")
    axis.set_title("Time per image")
