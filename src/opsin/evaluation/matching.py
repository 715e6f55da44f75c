"""Adapting the samples of a data set to a network: its classes, its input size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opsin.data.samples import Samples, class_counts
from opsin.errors import DataError, nearest
from opsin.types import SizePolicy

_LISTED = 20


def match_classes(samples: Samples, data_classes: Sequence[str], run_classes: Sequence[str]) -> Samples:
    """`samples` with their targets renumbered from the data set's classes to the run's, by name.

    A class missing from the data set is accepted: its scores are undefined.

    Raises:
        DataError: listing the classes of the data set that the network does not know.
    """
    number = {name: k for k, name in enumerate(run_classes)}
    unknown = [name for name in data_classes if name not in number]
    if unknown:
        close = nearest(unknown[0], run_classes)
        hint = f"`{unknown[0]}` may be `{close}`; rename it" if close else "leave these classes out of the data set"
        raise DataError(
            f"{len(unknown)} classes of the data set are unknown to the network",
            got=listed(unknown),
            expected=listed(run_classes),
            do=hint,
        )
    if tuple(data_classes) == tuple(run_classes):
        return samples
    renumbered = np.array([number[name] for name in data_classes], dtype=np.int64)
    targets = samples.mapped(lambda kind, rows: kind.renumbered(rows, renumbered, len(run_classes)))
    return replace(samples, **targets)


def absent_classes(samples: Samples, run_classes: Sequence[str]) -> list[str]:
    """Classes of the run of which there is no sample."""
    counts = class_counts(samples, len(run_classes))
    return [] if counts is None else [str(run_classes[int(k)]) for k in np.flatnonzero(counts == 0)]


def size_note(sizes: NDArray[np.int32], policy: SizePolicy) -> str | None:
    """A note on the resizing of images of these sizes; None if there was none.

    Args:
        sizes: int32 [N, 2], (height, width) before packing.
        policy: size policy of the network's input.

    >>> size_note(np.array([[32, 32], [60, 80]]), SizePolicy(height=32, width=32, fit="crop"))
    '1 of 2 images were not 32x32 px (from 80x60 to 80x60): short side resized, centre cut out'
    """
    other = (sizes != (policy.height, policy.width)).any(axis=1)
    if not other.any():
        return None
    changed = sizes[other]
    areas = changed.astype(np.int64).prod(axis=1)
    smallest, largest = changed[areas.argmin()], changed[areas.argmax()]
    how = {
        "squash": "both sides resized, the aspect ratio changes",
        "crop": "short side resized, centre cut out",
        "pad": "long side resized, the rest filled with black",
    }[policy.fit]
    return (
        f"{len(changed)} of {len(sizes)} images were not {policy.width}x{policy.height} px "
        f"(from {smallest[1]}x{smallest[0]} to {largest[1]}x{largest[0]}): {how}"
    )


def listed(names: Sequence[str]) -> str:
    """The first names, and how many there are more."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
