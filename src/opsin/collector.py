"""When Python's collector of unreachable objects runs.

PyTorch brings half a million objects with it. A full collection visits all of them, 0.1 s at a time: some ten times
while it is imported, where hardly anything is unreachable, and now and then between the steps of a training.
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


@contextmanager
def on_new_objects_only() -> Iterator[None]:
    """Context in which collections pass over what existed before it; those objects are collected after it."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
