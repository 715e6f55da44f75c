"""Limits of one request."""

from __future__ import annotations

import math
from dataclasses import dataclass

from opsin.config import require
from opsin.io.gate import MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one request.

    Attributes:
        max_bytes: size of its body.
        max_images: images in its body.
        max_pixels: pixels of one image; the limits of `io.images` apply too.
        timeout_s: seconds from its first byte to its response.
        max_requests: requests in progress or waiting.
        max_head_bytes: size of its headers.
    """

    max_bytes: int = 32 * MEBIBYTE
    max_images: int = 64
    max_pixels: int = 150_000_000
    timeout_s: float = 30.0
    max_requests: int = 64
    max_head_bytes: int = 32_768

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            require(0 < value < math.inf, name, value, "more than 0")
