"""Classical filters on images: named or custom kernels, in every mode, as convolution and as cross-correlation."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.errors import ConfigError, nearest
from opsin.io.images import is_gray
from opsin.ops.convolution import MODES, Mode, convolve, correlate, crop_mode, stacked_sizes
from opsin.types import LUMA, JsonDict

EDGE_QUANTILE = 0.995
"""Quantile of the responses to an edge kernel that is drawn in full colour."""
LARGEST_KERNEL = 255
NUM_STACKED = 10
GAUSSIAN_EXAMPLE = "gaussian:15x15,sigma=3"

NAMED: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "sobel-x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "sobel-y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "laplacian": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
}
"""Kernels with fixed numbers. Sobel's are written as CNN layers would learn them: cross-correlation answers positively
to values that rise to the right (x) and downwards (y); true convolution, which turns them, negatively."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A filter: `values` float64 [h, w], and what it is called."""

    name: str
    values: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w)."""
        height, width = self.values.shape
        return height, width

    @property
    def symmetric(self) -> bool:
        """Whether it is invariant to rotation by 180 degrees, so that convolution and cross-correlation agree."""
        return bool(np.array_equal(self.values, self.values[::-1, ::-1]))

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        height, width = self.shape
        return {
            "name": self.name,
            "height": height,
            "width": width,
            "sum": float(self.values.sum()),
            "symmetric": self.symmetric,
            "values": self.values.tolist(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Filtered:
    """An image and its filtered versions.

    `image`: float64 [C, H, W] in [0, 255], C = 1 where the image is grey. `convolved`, `correlated`: for each mode
    float64 [C, H', W'], neither rounded nor clipped.
    """

    image: NDArray[np.float64]
    kernel: Kernel
    convolved: Mapping[Mode, NDArray[np.float64]]
    correlated: Mapping[Mode, NDArray[np.float64]]

    def stacked(self, layers: int = NUM_STACKED) -> list[list[int]]:
        """[height, width] after 1, 2, ... `layers` valid layers of this kernel, while it fits."""
        sides = zip(self.image.shape[1:], self.kernel.shape, strict=True)
        heights, widths = (stacked_sizes(size, kernel, layers) for size, kernel in sides)
        return [list(size) for size in zip(heights, widths, strict=False)]

    def to_dict(self) -> JsonDict:
        """As plain JSON values: sizes and ranges of every output, but no pixels."""
        channels, height, width = self.image.shape
        return {
            "input": {"channels": channels, "height": height, "width": width},
            "kernel": self.kernel.to_dict(),
            "outputs": {mode: _summary(maps) for mode, maps in self.convolved.items()},
            "cross_correlation": {mode: _summary(maps) for mode, maps in self.correlated.items()},
            "largest_difference": float(np.abs(self.convolved["full"] - self.correlated["full"]).max()),
            "stacked_valid": self.stacked(),
        }


def parse_kernel(text: str) -> Kernel:
    """The kernel named or written out in `text`.

    >>> parse_kernel("sobel-x").values.tolist()
    [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]
    >>> parse_kernel("gaussian:15x15,sigma=3").shape
    (15, 15)
    >>> parse_kernel("[[0, 1], [1, 0]]").shape
    (2, 2)

    Raises:
        ConfigError: it is neither a name, nor a Gaussian, nor a matrix of finite numbers.
    """
    text = text.strip()
    if text.startswith("["):
        return Kernel("own", _matrix(text))
    name, _, details = text.partition(":")
    if name == "gaussian":
        return Kernel(text, _gaussian_of(details, text))
    if text in NAMED:
        return Kernel(text, np.array(NAMED[text], dtype=np.float64))
    names = [*NAMED, "gaussian"]
    close = nearest(name, names)
    do = f"did you mean `{GAUSSIAN_EXAMPLE if close == 'gaussian' else close}`?" if close else "choose one of these"
    raise ConfigError(
        "unknown kernel", where="--kernel", got=text, expected=f'{", ".join(NAMED)}, {GAUSSIAN_EXAMPLE}, "[[…]]"', do=do
    )


def gaussian(height: int, width: int, sigma: float) -> NDArray[np.float64]:
    """A Gaussian of standard deviation `sigma` pixels, sampled at the pixels, of sum 1: float64 [height, width]."""
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in (height, width))
    bell = np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * sigma**2))
    normalized: NDArray[np.float64] = bell / bell.sum()
    return normalized


def apply(pixels: NDArray[np.uint8], kernel: Kernel) -> Filtered:
    """The image filtered by `kernel`, in every mode that can be computed.

    Args:
        pixels: uint8 [C, H, W], RGB or grey; an RGB image whose channels are equal counts as grey.
        kernel: applied to each channel; larger than the image it has no `valid` output.
    """
    image = (pixels[:1] if is_gray(pixels) else pixels).astype(np.float64)
    size = image.shape[1:]
    fits = all(k <= side for k, side in zip(kernel.shape, size, strict=True))
    modes = [mode for mode in MODES if mode != "valid" or fits]
    convolved, correlated = convolve(image, kernel.values), correlate(image, kernel.values)
    return Filtered(
        image=image,
        kernel=kernel,
        convolved={mode: crop_mode(convolved, size, kernel.shape, mode) for mode in modes},
        correlated={mode: crop_mode(correlated, size, kernel.shape, mode, correlation=True) for mode in modes},
    )


def edge_scale(result: Filtered) -> float | None:
    """The response that is drawn in full colour, for kernels of sum 0; None for the others."""
    if abs(result.kernel.values.sum()) > 1e-9:
        return None
    responses = np.abs(result.convolved["full"].mean(axis=0))
    return float(np.quantile(responses, EDGE_QUANTILE)) or 1.0


def filtered_picture(result: Filtered) -> NDArray[np.uint8]:
    """The convolved image as a picture of its own size: uint8 [C, H, W].

    Of kernels of sum 0 (edges) it is grey, [1, H, W]: the mean response over the channels, 0 as 128, positive brighter.
    """
    maps, scale = result.convolved["same"], edge_scale(result)
    return clipped(maps if scale is None else 128 + 127 * maps.mean(axis=0, keepdims=True) / scale)


def clipped(maps: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Maps as pixels: rounded, and clipped to [0, 255]."""
    return np.clip(np.rint(maps), 0, 255).astype(np.uint8)


def sample_image(channels: int = 3) -> NDArray[np.uint8]:
    """The embedded sample: a temple, 427 x 640 pixels, uint8 [channels, 427, 640] with 3 (RGB) or 1 (grey) channels.

    Source: scikit-learn's `china.jpg`.
    """
    from sklearn.datasets import load_sample_image

    pixels = np.ascontiguousarray(load_sample_image("china.jpg").transpose(2, 0, 1))
    return to_gray(pixels) if channels == 1 else pixels


def to_gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey uint8 [1, H, W] of RGB uint8 [3, H, W], by the weights of ITU-R BT.601."""
    return np.rint(np.tensordot(np.array(LUMA), pixels, axes=1))[None].astype(np.uint8)


def _matrix(text: str) -> NDArray[np.float64]:
    """A matrix that is written out row by row."""
    expected = f'rows of equal length, e.g. "[[1, 0], [0, -1]]", sides of 1 to {LARGEST_KERNEL}'
    try:
        values = np.array(json.loads(text), dtype=np.float64)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            "the kernel is not a matrix of numbers", where="--kernel", got=text[:200], expected=expected
        ) from error
    if values.ndim != 2 or not all(1 <= side <= LARGEST_KERNEL for side in values.shape):
        raise ConfigError(
            "the kernel has another size than permitted", where="--kernel", got=values.shape, expected=expected
        )
    if not np.isfinite(values).all() or np.abs(values).max() > 1e6:
        raise ConfigError("a number of the kernel is out of range", where="--kernel", expected="-1e6 to 1e6")
    return values


def _gaussian_of(details: str, text: str) -> NDArray[np.float64]:
    """The Gaussian kernel that `15x15,sigma=3` describes."""
    match = re.fullmatch(r"(\d{1,3})[x×](\d{1,3}),\s*sigma=(\d+(?:\.\d+)?)", details)
    height, width, sigma = (int(match[1]), int(match[2]), float(match[3])) if match else (0, 0, math.nan)
    if not (1 <= height <= LARGEST_KERNEL and 1 <= width <= LARGEST_KERNEL and 0.1 <= sigma <= 1000):
        expected = f"{GAUSSIAN_EXAMPLE}; sides of 1 to {LARGEST_KERNEL}, sigma of 0.1 to 1000"
        raise ConfigError("the Gaussian kernel is invalid", where="--kernel", got=text, expected=expected)
    return gaussian(height, width, sigma)


def _summary(maps: NDArray[np.float64]) -> JsonDict:
    """Size and range of one output."""
    _, height, width = maps.shape
    values = {"min": float(maps.min()), "max": float(maps.max()), "mean": float(maps.mean())}
    return {"height": height, "width": width} | values
