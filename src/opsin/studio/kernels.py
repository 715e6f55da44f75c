"""Kernel bench: a kernel that is edited number by number, and what it makes of a picture in all three modes at once."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from opsin.explanation.kernels import NAMED, Filtered, Kernel, apply, clipped, edge_scale, gaussian, sample_image
from opsin.io.images import encode_png
from opsin.ops.resize import fit_image
from opsin.server.refusal import RequestError
from opsin.studio.pages import choice, number, page
from opsin.types import SizePolicy

SIDES = tuple(str(side) for side in range(3, 16, 2))
PRESETS = ("sobel-x", "sobel-y", "laplacian", "sharpen", "gaussian", "mean", "identity")
PICTURES = ("temple", "temple in colour", "checkerboard", "point")
WAYS = ("convolution", "cross-correlation")
PICTURE_SIZE = SizePolicy(height=128, width=192)
LARGEST = 1000.0
"""Of a number in a kernel."""
Numbers = NDArray[np.float64]


def show(request: Request) -> Response:
    """The page, with a kernel to begin with."""
    return page(
        request, "kernels.html", sides=SIDES, presets=PRESETS, pictures=PICTURES, ways=WAYS, **_grid("sobel-x", 3)
    )


def grid(request: Request) -> Response:
    """The fields of a preset at some side."""
    preset = choice(request.query_params, "preset", PRESETS)
    side = int(choice(request.query_params, "side", SIDES))
    return page(request, "kernel_grid.html", **_grid(preset, side))


def result(request: Request) -> Response:
    """The picture under the kernel: full, same and valid."""
    query = request.query_params
    values = kernel_of(query)
    correlated = choice(query, "way", WAYS) == WAYS[1]
    found = apply(picture(choice(query, "picture", PICTURES)), Kernel("own", values))
    maps = found.correlated if correlated else found.convolved
    outputs = [
        {
            "mode": mode,
            "address": _address(drawn(found, maps[mode])),
            "height": maps[mode].shape[1],
            "width": maps[mode].shape[2],
            "low": float(maps[mode].min()),
            "high": float(maps[mode].max()),
        }
        for mode in maps
    ]
    values_sum = float(values.sum())
    seen = _address(clipped(found.image))
    return page(request, "kernel_result.html", outputs=outputs, sum=values_sum, kernel=found.kernel, seen=seen)


def kernel_of(values: Mapping[str, str]) -> Numbers:
    """The kernel of a form, float64 [side, side]: fields `k0`, `k1`, … row by row; what is empty is 0.

    Raises:
        RequestError: 400, a number that does not fit.
    """
    side = int(choice(values, "side", SIDES))
    numbers = [number(values, f"k{i}", low=-LARGEST, high=LARGEST) or 0.0 for i in range(side * side)]
    return np.array(numbers, np.float64).reshape(side, side)


def preset_of(name: str, side: int) -> Numbers:
    """A kernel by name, float64 [side, side]: those of 3 x 3 stand in the middle of a larger one.

    >>> preset_of("identity", 3).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if name == "gaussian":
        return gaussian(side, side, side / 5)
    if name == "mean":
        return np.full((side, side), 1 / side**2)
    made = np.zeros((side, side))
    small = np.array(NAMED[name], np.float64) if name in NAMED else np.array([[1.0]])
    start = (side - len(small)) // 2
    made[start : start + len(small), start : start + len(small)] = small
    return made


@cache
def picture(name: str) -> NDArray[np.uint8]:
    """A picture to filter, uint8 [C, 128, 192]."""
    if name.startswith("temple"):
        return fit_image(sample_image(3 if "colour" in name else 1), PICTURE_SIZE)
    height, width = PICTURE_SIZE.height, PICTURE_SIZE.width
    if name == "checkerboard":
        board = (np.arange(height)[:, None] // 16 + np.arange(width) // 16) % 2
        return (255 * board[None]).astype(np.uint8)
    if name == "point":
        point = np.zeros((1, height, width), np.uint8)
        point[0, height // 2, width // 2] = 255
        return point
    raise RequestError(400, "no such picture", got=name[:40])


def drawn(found: Filtered, maps: Numbers) -> NDArray[np.uint8]:
    """One output as pixels: of kernels of sum 0 grey, with 0 as 128 and positive brighter; else clipped to 0 to 255."""
    scale = edge_scale(found)
    return clipped(maps if scale is None else 128 + 127 * maps.mean(axis=0, keepdims=True) / scale)


def _grid(preset: str, side: int) -> dict[str, Any]:
    rows = [[f"{value:.4g}" for value in row] for row in preset_of(preset, side)]
    return {"rows": rows, "side": side, "preset": preset}


def _address(pixels: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()
