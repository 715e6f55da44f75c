"""Timing an exported file against the network in PyTorch, with equal threads, one after the other."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.exports.proof import Answer

BATCH_SIZE = 32
MAX_CALLS = 200
MIN_CALLS = 5
WARM_UP = 3
SECONDS = 1.0
"""Seconds of each of the four timings; slow networks make at least `MIN_CALLS` calls."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Milliseconds per single image, median and 99th percentile; images per second in batches of 32."""

    p50_ms: float
    p99_ms: float
    images_per_s: float

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.p50_ms:.2f} ms (p99 {self.p99_ms:.2f} ms), {self.images_per_s:,.0f} images/s"


def measure(answer: Answer, image: NDArray[np.uint8], *, seconds: float = SECONDS) -> Speed:
    """The speed of `answer` for uint8 [1, C, H, W] alone, and for a batch of it."""
    alone = np.sort(_durations(answer, image, seconds)) * 1e3
    batch = np.repeat(image, BATCH_SIZE, axis=0)
    together = float(np.median(_durations(answer, batch, seconds)))
    return Speed(
        p50_ms=float(np.percentile(alone, 50)),
        p99_ms=float(np.percentile(alone, 99)),
        images_per_s=BATCH_SIZE / together,
    )


def _durations(answer: Answer, images: NDArray[np.uint8], seconds: float) -> NDArray[np.float64]:
    for _ in range(WARM_UP):
        answer(images)
    found: list[float] = []
    start = time.perf_counter()
    while len(found) < MIN_CALLS or (len(found) < MAX_CALLS and time.perf_counter() - start < seconds):
        before = time.perf_counter()
        answer(images)
        found.append(time.perf_counter() - before)
    return np.asarray(found)
