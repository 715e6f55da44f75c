"""The figure of `opsin kernels`: input, kernel, and the outputs of every mode, convolution over cross-correlation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsin.explanation.axes import bare
from opsin.explanation.kernels import Filtered, Kernel, clipped, edge_scale
from opsin.figures import figure_to
from opsin.ops.convolution import MODES, Mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRITTEN_KERNEL = 7
"""Kernels up to this side show their numbers."""


def draw_kernels(result: Filtered, path: Path, *, title: str) -> None:
    """Write the labelled figure as a PNG.

    Outputs of kernels of sum 0 (edges) are drawn around white, red above 0 and blue below, as the mean over the
    channels; others as pictures, clipped to [0, 255]. All maps have one scale, so that their sizes can be compared.
    """
    _, height, width = result.image.shape
    ratio = min(max(height / width, 0.4), 1.6)
    scale = edge_scale(result)
    with figure_to(path, 13, 5.2 * ratio + 2.1) as figure:
        axes = figure.subplots(2, 4)
        _draw_input(axes[0][0], result)
        _draw_kernel(axes[1][0], result.kernel)
        for row, (name, outputs) in enumerate(
            (("convolution", result.convolved), ("cross-correlation", result.correlated))
        ):
            for axis, mode in zip(axes[row][1:], MODES, strict=True):
                _draw_output(axis, result, outputs, name, mode, scale)
        if scale is not None:
            label = "response (0: no edge)"
            figure.colorbar(axes[0][1].images[0], ax=[row[3] for row in axes], shrink=0.7, label=label)
        figure.suptitle(_caption(result, title), fontsize=11)


def _draw_output(
    axis: Axes,
    result: Filtered,
    outputs: Mapping[Mode, NDArray[np.float64]],
    name: str,
    mode: Mode,
    scale: float | None,
) -> None:
    """One output inside the extent of `full`, with the outline of the input."""
    if mode not in outputs:
        axis.text(0.5, 0.5, f"{name}, {mode}: none\n(the kernel is larger than the image)", ha="center", va="center")
        bare(axis)
        return
    maps = outputs[mode]
    if scale is None:
        _picture(axis, maps)
    else:
        axis.imshow(maps.mean(axis=0), cmap="RdBu_r", vmin=-scale, vmax=scale)
    _frame(axis, result, maps.shape[1:])
    axis.set_title(f"{name}, {mode}: {maps.shape[1]} x {maps.shape[2]}")
    bare(axis)


def _caption(result: Filtered, title: str) -> str:
    kernel = result.kernel
    relation = (
        "the kernel is symmetric, so that convolution and cross-correlation agree"
        if kernel.symmetric
        else "convolution rotates the kernel by 180 degrees, a CNN layer (cross-correlation) does not"
    )
    return f"{title}, {kernel.name}: {relation}. Dashed: the outline of the input."


def _draw_input(axis: Axes, result: Filtered) -> None:
    _picture(axis, result.image)
    channels, height, width = result.image.shape
    axis.set_title(f"input, {'grey' if channels == 1 else 'colour'}: {height} x {width}")
    bare(axis)


def _draw_kernel(axis: Axes, kernel: Kernel) -> None:
    """The kernel's numbers as colours, and written out while they are few."""
    reach = float(np.abs(kernel.values).max()) or 1.0
    axis.imshow(kernel.values, cmap="RdBu_r", vmin=-reach, vmax=reach)
    if max(kernel.shape) <= WRITTEN_KERNEL:
        for (i, j), value in np.ndenumerate(kernel.values):
            dark = abs(value) > 0.6 * reach
            axis.text(j, i, f"{value:.3g}", ha="center", va="center", color="white" if dark else "black")
    axis.set_title(f"kernel as written, sum {kernel.values.sum():.4g}, largest {np.abs(kernel.values).max():.3g}")
    bare(axis)


def _frame(axis: Axes, result: Filtered, size: tuple[int, ...]) -> None:
    """Lay a map of `size` (rows, columns) centred in the extent of `full`, and outline the input there."""
    from matplotlib.patches import Rectangle

    (height, width), (rows, columns) = result.image.shape[1:], result.kernel.shape
    full = (height + rows - 1, width + columns - 1)
    top, left = (full[0] - size[0]) / 2, (full[1] - size[1]) / 2
    axis.images[0].set_extent((left, left + size[1], top + size[0], top))
    axis.set_xlim(0, full[1])
    axis.set_ylim(full[0], 0)
    corner = ((columns - 1) / 2, (rows - 1) / 2)
    axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="0.2", linewidth=0.8, linestyle=(0, (3, 3))))


def _picture(axis: Axes, maps: NDArray[np.float64]) -> None:
    pixels = clipped(maps)
    if len(pixels) == 1:
        axis.imshow(pixels[0], cmap="gray", vmin=0, vmax=255)
    else:
        axis.imshow(pixels.transpose(1, 2, 0))
