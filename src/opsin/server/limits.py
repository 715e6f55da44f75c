"""What one request may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from opsin.config import require
from opsin.io.gate import MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may cost.

    Attributes:
        max_bytes: of its body.
        max_images: in its body.
        max_pixels: of one image; the limits of `io.images` hold as well.
        timeout_s: from its first byte to its answer.
        max_requests: that are answered or wait at the same time.
    """

    max_bytes: int = 32 * MEBIBYTE
    max_images: int = 64
    max_pixels: int = 150_000_000
    timeout_s: float = 30.0
    max_requests: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(0 < value < math.inf, name, value, "more than 0")
