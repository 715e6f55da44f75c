"""When Python's collector of unreachable objects runs.

A full collection visits every object there is, and PyTorch brings hundreds of thousands with it. While it is imported
they multiply, so that full collections follow each other, and find hardly anything: imports leave no garbage.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_rest() -> Iterator[None]:
    """Context without collections, for imports."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
