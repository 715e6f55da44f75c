"""Two-dimensional convolution as mathematics defines it, and the cross-correlation that CNN layers compute.

Computed in float64, one shifted copy of the image for each entry of the kernel, so that every number can be followed.

Shapes: C channels, H x W image, h x w kernel.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opsin.errors import ConfigError

Mode = Literal["full", "same", "valid"]
MODES: tuple[Mode, ...] = ("full", "same", "valid")

Array = NDArray[np.float64]


def output_size(size: int, kernel: int, mode: Mode, *, stride: int = 1) -> int:
    """Side of the output of one layer, in pixels.

    `full`: every place where kernel and image overlap; `same`: as many as the image has; `valid`: the kernel lies
    inside the image entirely. A stride keeps every `stride`-th place, beginning with the first.

    >>> [output_size(512, 15, mode) for mode in MODES]
    [526, 512, 498]
    >>> output_size(200, 3, "same", stride=2)
    100

    Returns:
        The side; 0 where the kernel does not fit into the image (`valid` only).
    """
    places = {"full": size + kernel - 1, "same": size, "valid": max(0, size - kernel + 1)}[mode]
    return -(-places // stride)


def stacked_sizes(size: int, kernel: int, layers: int, mode: Mode = "valid") -> list[int]:
    """Sides after 1, 2, ... `layers` layers of one kernel; a layer that does not fit ends the list.

    >>> stacked_sizes(32, 5, 3)
    [28, 24, 20]
    """
    sizes: list[int] = []
    for _ in range(layers):
        size = output_size(size, kernel, mode)
        if size == 0:
            break
        sizes.append(size)
    return sizes


def convolve(image: Array, kernel: Array, mode: Mode = "full") -> Array:
    """The image convolved with the kernel; outside the image everything is 0.

    out[y, x] = sum over (i, j) of kernel[i, j] * image[y - i, x - j]: the kernel is turned by 180 degrees before it is
    laid on the image. `same` is the middle of `full`, as in `scipy.signal.convolve2d`.

    Args:
        image: [..., H, W]; each leading index (a colour channel) is convolved by itself.
        kernel: [h, w].
        mode: see `output_size`.

    Returns:
        float64 [..., H + h - 1, W + w - 1] for `full`, [..., H, W] for `same`, [..., H - h + 1, W - w + 1] for `valid`.

    Raises:
        ConfigError: `valid`, and the kernel is larger than the image.
    """
    return crop_mode(_full(image, kernel), image.shape[-2:], kernel.shape, mode)


def correlate(image: Array, kernel: Array, mode: Mode = "full") -> Array:
    """The cross-correlation of image and kernel: what a convolutional layer computes, without bias.

    out[y, x] = sum over (i, j) of kernel[i, j] * image[y + i, x + j]. It is the convolution with the kernel turned by
    180 degrees. Where a kernel has an even side, `same` pads as PyTorch does: one row or column less before the image
    than after it. Arguments and result as in `convolve`.
    """
    return crop_mode(_full(image, kernel[::-1, ::-1]), image.shape[-2:], kernel.shape, mode, correlation=True)


def crop_mode(
    full: Array,
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    mode: Mode,
    *,
    correlation: bool = False,
) -> Array:
    """The part of a `full` result that is the result in `mode`.

    Args:
        full: [..., H + h - 1, W + w - 1].
        image, kernel: (H, W) and (h, w).
        mode: see `output_size`.
        correlation: `full` is a cross-correlation; matters for `same` and kernels of an even side only.

    Raises:
        ConfigError: `valid`, and the kernel is larger than the image.
    """
    sizes = [output_size(i, k, mode) for i, k in zip(image, kernel, strict=True)]
    if 0 in sizes:
        got = f"kernel {kernel[0]}x{kernel[1]}, image {image[0]}x{image[1]}"
        raise ConfigError(
            "the kernel does not fit into the image", got=got, do="take a smaller kernel, or mode full or same"
        )
    before = {
        "full": (0, 0),
        "same": tuple(k // 2 if correlation else (k - 1) // 2 for k in kernel),
        "valid": tuple(k - 1 for k in kernel),
    }[mode]
    rows, columns = (slice(start, start + size) for start, size in zip(before, sizes, strict=True))
    return full[..., rows, columns]


def _full(image: Array, kernel: Array) -> Array:
    """Every place where the kernel and the image overlap."""
    (height, width), (rows, columns) = image.shape[-2:], kernel.shape
    result = np.zeros((*image.shape[:-2], height + rows - 1, width + columns - 1))
    for i in range(rows):
        for j in range(columns):
            if kernel[i, j]:
                result[..., i : i + height, j : j + width] += kernel[i, j] * image
    return result
