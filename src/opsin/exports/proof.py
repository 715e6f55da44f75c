"""Checking that an exported file reproduces the network: which differences are rounding, and which refuse the export.

| prediction | largest difference |
|---|---|
| probabilities | 1e-4 |
| numbers (regression) | 1e-4 of the largest of them |
| boxes | 1e-4 of the input's longer side, in pixels of the input |
| masks, uncertainty | one pixel in 1,000 of another class, or another step of uncertainty: rounding |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array, Arrays
from opsin.errors import CheckFailedError
from opsin.exports.program import Golden

Answer = Callable[[NDArray[np.uint8]], Arrays]
"""Runs a file on uint8 [B, C, H, W]: arrays of B rows."""
PROBABILITY_TOLERANCE = 1e-4
BOX_TOLERANCE = 1e-4
PIXEL_TOLERANCE = 1e-3


def differences(found: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, float]:
    """For floats the largest difference, for pixel classes the share that differs; infinite for other shapes.

    >>> differences({"masks": np.array([0, 1], np.uint8)}, {"masks": np.array([0, 2], np.uint8)})
    {'masks': 0.5}
    """
    if found.keys() != expected.keys():
        return {"outputs": float("inf")}
    return {name: _difference(np.asarray(found[name]), np.asarray(expected[name])) for name in expected}


def _difference(found: Array, expected: Array) -> float:
    if found.shape != expected.shape or found.dtype != expected.dtype or not np.isfinite(found).all():
        return float("inf")
    if np.issubdtype(expected.dtype, np.floating):
        return float(np.abs(found - expected).max(initial=0.0))
    return float((found != expected).mean())


def tolerance(name: str, expected: Array, longer_side: int) -> float:
    """The largest difference of a prediction that counts as rounding.

    Args:
        name: name of the prediction, e.g. "boxes".
        expected: output of the network.
        longer_side: longer side of the network's input, in pixels.
    """
    if name == "boxes":
        return BOX_TOLERANCE * longer_side
    if name == "numbers":
        return PROBABILITY_TOLERANCE * float(np.abs(expected).max(initial=0.0))
    return PROBABILITY_TOLERANCE if np.issubdtype(expected.dtype, np.floating) else PIXEL_TOLERANCE


def prove(answer: Answer, golden: Golden, *, where: object) -> dict[str, float]:
    """Replay the golden images, together and one alone.

    Returns:
        The largest difference of each prediction.

    Raises:
        CheckFailedError: a difference is beyond the tolerance.
    """
    images = golden.images.numpy()
    together = differences(answer(images), golden.predictions)
    alone = differences(answer(images[:1]), {key: value[:1] for key, value in golden.predictions.items()})
    worst = {name: max(together.get(name, 0.0), alone.get(name, 0.0)) for name in {**together, **alone}}
    side = max(images.shape[2:])
    allowed = {name: tolerance(name, value, side) for name, value in golden.predictions.items()} | {"outputs": 0.0}
    if beyond := [name for name in worst if not worst[name] <= allowed[name]]:
        raise CheckFailedError(
            "the outputs of the exported file differ from the network's; the file was deleted",
            where=where,
            got=", ".join(f"{name} differ by {worst[name]:.3g}" for name in beyond),
            expected=", ".join(f"{name} within {allowed[name]:.3g}" for name in beyond),
            do="this is a bug of the exporter: choose the other --format, and report it",
        )
    return worst
