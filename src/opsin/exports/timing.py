"""Timing an exported file against the network in PyTorch, with equal threads, call by call in turn."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.exports.proof import Answer

BATCH_SIZE = 32
MAX_CALLS = 200
MIN_CALLS = 5
WARM_UP = 3
SECONDS = 1.0
"""Seconds of each timing, for each file; slow networks make at least `MIN_CALLS` calls."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Milliseconds per single image, median and 99th percentile; images per second in batches of 32."""

    p50_ms: float
    p99_ms: float
    images_per_s: float

    def to_json(self) -> dict[str, object]:
        """As plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.p50_ms:.2f} ms (p99 {self.p99_ms:.2f} ms), {self.images_per_s:,.0f} images/s"


def measure(*answers: Answer, image: NDArray[np.uint8], seconds: float = SECONDS) -> tuple[Speed, ...]:
    """The speed of each of `answers` for uint8 [1, C, H, W] alone, and for a batch of it.

    They take turns, call by call, so that what else the machine does slows them alike.
    """
    alone = _durations(answers, image, seconds) * 1e3
    together = np.median(_durations(answers, np.repeat(image, BATCH_SIZE, axis=0), seconds), axis=1)
    return tuple(
        Speed(
            p50_ms=float(np.percentile(single, 50)),
            p99_ms=float(np.percentile(single, 99)),
            images_per_s=BATCH_SIZE / float(batch),
        )
        for single, batch in zip(alone, together, strict=True)
    )


def _durations(answers: tuple[Answer, ...], images: NDArray[np.uint8], seconds: float) -> NDArray[np.float64]:
    """Seconds of each call: float64 [answers, rounds]."""
    for answer in answers * WARM_UP:
        answer(images)
    found: list[list[float]] = []
    start = time.perf_counter()
    while len(found) < MIN_CALLS or (len(found) < MAX_CALLS and time.perf_counter() - start < seconds * len(answers)):
        found.append([_duration(answer, images) for answer in answers])
    return np.asarray(found).T


def _duration(answer: Answer, images: NDArray[np.uint8]) -> float:
    before = time.perf_counter()
    answer(images)
    return time.perf_counter() - before
