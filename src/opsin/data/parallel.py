"""One function over many samples, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

HASHING_THREADS = 8
AT_ONCE = 1024
"""Samples per work item, so that the queue stays short for any number of samples."""


def for_each(function: Callable[[int], None], count: int, advance: Callable[[int], None] | None = None) -> None:
    """Call `function(0)` to `function(count - 1)`, one thread per CPU; the first exception stops all of them.

    `advance` is called from this thread with the number of calls that are done.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, count, AT_ONCE):
            stop = min(start + AT_ONCE, count)
            for done, _ in enumerate(pool.map(function, range(start, stop)), start + 1):
                if advance is not None and (done % 32 == 0 or done == stop):
                    advance(done)
