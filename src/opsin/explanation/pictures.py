"""The figures of `opsin explain`: filters, feature maps, attributions, receptive fields, top-activating patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.explanation.attribution import METHODS, Attribution
from opsin.explanation.axes import bare, pale, show_photo
from opsin.explanation.neurons import Favourites
from opsin.explanation.receptive import ReceptiveField
from opsin.figures import figure_to

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

FULL_COLOUR = 0.995
"""Quantile drawn in full colour, so that a single pixel does not dominate."""
MAX_TILES = 64
MAX_CHANNELS = 12
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SIGNED = ("integrated gradients", "occlusion")
LETTERS_PER_INCH = 11
"""Of a title."""
TILE_INCHES = 1.1
"""Width of a filter or a map, with the gap beside it."""
KEY_INCHES, SHORTEST_KEY_INCHES = 0.9, 1.4
"""Width of a colour bar with its numbers, and the least height in which they can be read."""
KEY_BAR_INCHES = 0.18
"""Width of a colour bar alone."""
TITLE_LINE_INCHES = 0.22
KEY_LINE_INCHES = 0.25
"""Height of a line in the key below a photo."""
MEANINGS = {
    "saliency": "saliency: size of the gradient",
    "grad-cam": "Grad-CAM",
    "integrated gradients": "integrated gradients",
    "occlusion": "occlusion: fall under occlusion",
}


def draw_filters(weights: NDArray[np.float32], path: Path, *, title: str) -> None:
    """Write the first layer's filters, float32 [K, C, h, w], as a PNG: in colour for C = 3, else each channel.

    Each filter has its own scale, written above it: filters differ greatly in magnitude.
    """
    colour = weights.shape[1] == 3
    tiles = weights if colour else weights.reshape(-1, 1, *weights.shape[2:])
    shown = tiles[:MAX_TILES]
    with _tiled(path, len(shown), 1.0, title=_counted(title, len(shown), len(tiles), "filters")) as (figure, axes):
        for number, (axis, tile) in enumerate(zip(axes, shown, strict=True)):
            reach = float(np.abs(tile).max()) or 1.0
            if colour:
                axis.imshow(np.clip(0.5 + tile.transpose(1, 2, 0) / (2 * reach), 0, 1), interpolation="nearest")
            else:
                axis.imshow(tile[0] / reach, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            axis.set_title(f"{number}: ±{reach:.2g}", pad=2, fontsize=8)
        if colour:
            figure.supxlabel("weights of red, green and blue as a colour: mid-grey is 0, full colour is the ± above")
        else:
            figure.colorbar(axes[0].images[0], ax=axes, shrink=0.8, label="weight (1: the ± above the filter)")


def draw_maps(maps: NDArray[np.float32], path: Path, *, title: str) -> None:
    """Write the maps of one layer for one photo, float32 [C, h, w], as a PNG with one scale for all channels.

    All maps are one picture: an axis for each would take matplotlib seconds.
    """
    shown = maps[:MAX_TILES]
    signed, reach = bool(shown.min() < 0), _reach(shown)
    count, high, wide = shown.shape
    columns = _columns(count)
    rows, gap = ceil(count / columns), max(1, round(0.06 * wide))
    label = max(1, round(0.16 * wide))  # room for the number above a map
    mosaic = np.full((rows * (high + label + gap), columns * (wide + gap)), np.nan, np.float32)
    across, tall = TILE_INCHES * columns, TILE_INCHES * columns * mosaic.shape[0] / mosaic.shape[1]
    lines = wrap(_counted(title, count, len(maps), "channels"), int(LETTERS_PER_INCH * (across + KEY_INCHES)))
    height = max(tall, SHORTEST_KEY_INCHES) + TITLE_LINE_INCHES * len(lines) + 0.1
    with figure_to(path, across + KEY_INCHES, height) as figure:
        figure.set_layout_engine("compressed")
        axis = figure.subplots()
        for number, found in enumerate(shown):
            top, left = number // columns * (high + label + gap) + label, number % columns * (wide + gap)
            mosaic[top : top + high, left : left + wide] = found
            axis.text(left + wide / 2 - 0.5, top - 0.5, str(number), ha="center", va="bottom", fontsize=8)
        cmap, low = ("RdBu_r", -reach) if signed else ("magma", 0.0)
        drawn = axis.imshow(mosaic, cmap=cmap, vmin=low, vmax=reach, interpolation="nearest")
        bare(axis)
        share, aspect = KEY_BAR_INCHES / (across + KEY_INCHES), max(tall, SHORTEST_KEY_INCHES) / KEY_BAR_INCHES
        extend = "both" if signed else "max"
        key = figure.colorbar(drawn, ax=axis, fraction=share, pad=0.01, aspect=aspect, extend=extend)
        key.set_label("activation of the channel")
        figure.suptitle("\n".join(lines))


def draw_attributions(
    pixels: NDArray[np.uint8],
    found: Sequence[Attribution],
    path: Path,
    *,
    title: str,
    drawn: Mapping[str, NDArray[np.uint8]],
) -> None:
    """Write attributions as a PNG: one row per quantity, one column per method.

    Args:
        pixels: uint8 [C, H, W], the photo at the network's size.
        found: one for each quantity.
        path: output file.
        title: title of the figure.
        drawn: pictures uint8 [3, H', W'] on the left by title, such as the photo with the prediction.
    """
    ratio = _ratio(*pixels.shape[1:])
    methods = [method for method in METHODS if method in found[0].maps or method in found[0].missing]
    width, high = 3.1 * (len(drawn) + len(methods)), 2.6 * ratio + 0.75
    lines = wrap(title, int(LETTERS_PER_INCH * width))
    with figure_to(path, width, high * len(found) + 0.3 + 0.2 * len(lines)) as figure:
        figure.suptitle("\n".join(lines))
        rows = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
        for row, attribution in zip(rows, found, strict=True):
            axes = np.atleast_1d(row.subplots(1, len(drawn) + len(methods)))
            row.suptitle(f"{attribution.quantity.name}: {attribution.quantity.value:.4g}", fontsize=10.5)
            for axis, (name, photo) in zip(axes, drawn.items(), strict=False):
                show_photo(axis, photo)
                axis.set_title(name)
            for axis, method in zip(axes[len(drawn) :], methods, strict=True):
                _draw_method(row, axis, pixels, attribution, method)


def _draw_method(
    figure: Figure | SubFigure, axis: Axes, pixels: NDArray[np.uint8], attribution: Attribution, method: str
) -> None:
    axis.set_title(MEANINGS[method])
    if method not in attribution.maps:
        axis.text(0.5, 0.5, attribution.missing[method], ha="center", va="center", transform=axis.transAxes)
        bare(axis)
        return
    found = attribution.maps[method]
    reach = _reach(found)
    if method in SIGNED:
        shown = axis.imshow(found, cmap="RdBu_r", vmin=-reach, vmax=reach)
    else:
        show_photo(axis, pale(pixels))
        shown = axis.imshow(found, cmap="magma", vmin=0, vmax=reach, alpha=0.75)
    bare(axis)
    figure.colorbar(shown, ax=axis, shrink=0.78, extend="both" if method in SIGNED else "max")


def draw_receptive_fields(
    pixels: NDArray[np.uint8],
    fields: Sequence[ReceptiveField],
    gradients: Mapping[str, NDArray[np.float64]],
    path: Path,
    *,
    title: str,
) -> None:
    """Write the receptive fields of the centre units of a few layers, on the photo uint8 [C, H, W], as a PNG."""
    ratio = _ratio(*pixels.shape[1:])
    count = 1 + len(fields)
    with figure_to(path, 3.4 * count, 3.2 * ratio + 1.4 + KEY_LINE_INCHES * len(fields)) as figure:
        axes = figure.subplots(1, count)
        show_photo(axes[0], pixels)
        axes[0].set_title("theoretical (centre unit)")
        for number, field in enumerate(fields):
            _outline(axes[0], field, COLOURS[number % len(COLOURS)], label=f"{field.layer.name}: {_size_of(field)}")
        axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), fontsize=8, ncols=1)
        for number, (axis, field) in enumerate(zip(axes[1:], fields, strict=True)):
            show_photo(axis, pale(pixels))
            gradient = gradients[field.layer.name]
            shown = axis.imshow(gradient / (gradient.max() or 1.0), cmap="magma", vmin=0, vmax=1, alpha=0.7)
            _outline(axis, field, COLOURS[number % len(COLOURS)])
            axis.set_title(
                f"{field.layer.name}\ntheoretical {_size_of(field)}\neffective {field.effective_px:.0f} px square"
            )
        figure.colorbar(shown, ax=axes[-1], shrink=0.8, label="gradient (1: largest)")
        figure.suptitle(title)


def draw_favourites(found: Favourites, path: Path, *, title: str) -> None:
    """Write the top-activating patches of each channel as a PNG: one row per channel, strongest first."""
    rows = found.channels[:MAX_CHANNELS]
    columns = found.values.shape[1]
    patch = found.patches[0][0]
    ratio = _ratio(*patch.shape[1:])
    with figure_to(path, 1.25 * columns + 1.0, (1.2 * ratio + 0.22) * len(rows) + 0.9) as figure:
        axes = np.asarray(figure.subplots(len(rows), columns, squeeze=False))
        for k, channel in enumerate(rows):
            for j in range(columns):
                show_photo(axes[k][j], found.patches[k][j])
                axes[k][j].set_title(f"{found.values[k, j]:.3g}", pad=2, fontsize=8)
            axes[k][0].set_ylabel(f"channel {channel}", rotation=0, ha="right", va="center")
        figure.suptitle(_counted(title, len(rows), len(found.channels), "channels"))


@contextmanager
def _tiled(path: Path, count: int, ratio: float, *, title: str) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of `count` tiles of that height over width, with their axes; unused tiles are left white."""
    columns = _columns(count)
    rows = ceil(count / columns)
    with figure_to(path, 1.1 * columns + 1.6, (1.1 * ratio + 0.25) * rows + 1.0) as figure:
        grid = np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel()
        for axis in grid:
            bare(axis)
        for axis in grid[count:]:
            axis.set_visible(False)
        figure.suptitle(title)
        yield figure, list(grid[:count])


def _columns(count: int) -> int:
    """Number of columns for `count` tiles."""
    return min(count, 8 if count <= 32 else 12)


def _counted(title: str, shown: int, total: int, things: str) -> str:
    return title if shown == total else f"{title} (the first {shown} of {total} {things})"


def _reach(values: Array) -> float:
    """The value drawn in full colour."""
    size = np.abs(values)
    return float(np.quantile(size, FULL_COLOUR)) or float(size.max()) or 1.0


def _ratio(height: int, width: int) -> float:
    return min(max(height / width, 0.4), 1.8)


def _size_of(field: ReceptiveField) -> str:
    return "unknown" if field.theoretical is None else "{} x {} px".format(*field.theoretical)


def _outline(axis: Axes, field: ReceptiveField, colour: str, *, label: str | None = None) -> None:
    """The window of a field, clipped at the image's border."""
    from matplotlib.patches import Rectangle

    if field.window is None:
        return
    left, top, right, bottom = field.window
    x_end, y_end = axis.get_xlim()[1], axis.get_ylim()[0]
    x1, y1, x2, y2 = max(left - 0.5, -0.5), max(top - 0.5, -0.5), min(right - 0.5, x_end), min(bottom - 0.5, y_end)
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2, label=label))
