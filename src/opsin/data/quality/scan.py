"""One pass over a split: each image decoded once, its digest, size, thumbnail; what cannot be read, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from opsin.data.digests import digest
from opsin.data.pack import counted
from opsin.data.parallel import for_each
from opsin.data.quality.near import THUMB
from opsin.data.samples import Bytes
from opsin.errors import InputError
from opsin.io import spill
from opsin.io.images import DecodedImage, Sides, is_gray
from opsin.ops.resize import fit_image
from opsin.types import SizePolicy

THUMB_POLICY = SizePolicy(height=THUMB, width=THUMB)
LOOKED_AT_PX = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """What one pass over a split learned: `thumbs` uint8 `[N, 3, 32, 32]` or None, `sizes` int32 `[N, 2]`."""

    digests: list[bytes | None]
    thumbs: Bytes | None
    sizes: NDArray[np.int32]
    num_grey: int
    failures: list[tuple[int, str]]
    notes: tuple[str, ...] = ()


def _looked_at(height: int, width: int) -> tuple[int, int]:
    """Sides at which images are compared: the largest JPEGs need not be decoded whole."""
    return min(height, LOOKED_AT_PX), min(width, LOOKED_AT_PX)


class Readable(Protocol):
    """Images by number."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, i: int, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
        """Image `i`; with `sides`, not many more pixels than these need; with `bits` of 16, all its bits."""


def scan(
    source: Readable,
    *,
    thumbs: bool,
    advance: Callable[[int], None] | None = None,
    also: Callable[[int, DecodedImage], None] | None = None,
) -> Scan:
    """Decode each image of a split once, in parallel: digest, size, thumbnail; unreadable ones with their reasons.

    Images of a set of 16 bits are compared with all of them; thumbnails have 8.

    Args:
        thumbs: make thumbnails.
        advance: called from time to time with the number of images that are done.
        also: called from several threads with each image and its number; a sample for which it raises an `InputError`
            is unreadable too.
    """
    num_samples, bits = len(source), int(getattr(source, "bits", 8))
    digests: list[bytes | None] = [None] * num_samples
    pictures = spill.zeros((num_samples, 3, THUMB, THUMB), np.uint8) if thumbs else None
    sizes = np.zeros((num_samples, 2), np.int32)
    grey = np.zeros(num_samples, bool)
    failures: list[tuple[int, str]] = []
    notes: list[str] = []

    def look(i: int) -> None:
        try:
            decoded = source.read(i, _looked_at, bits)
            pixels = decoded.pixels
            notes.extend(decoded.notes)
            digests[i], sizes[i], grey[i] = digest(pixels), decoded.size, is_gray(pixels)
            if pictures is not None:
                pictures[i] = fit_image(pixels, THUMB_POLICY)
            if also is not None:
                also(i, decoded)
        except InputError as error:
            failures.append((i, _reason(error)))

    for_each(look, num_samples, advance)
    return Scan(
        digests=digests,
        thumbs=pictures,
        sizes=sizes,
        num_grey=int(grey.sum()),
        failures=sorted(failures),
        notes=counted(notes),
    )


def _reason(error: InputError) -> str:
    """The problem, with the found and the expected value where the sentence lacks them."""
    if error.got is None or error.expected is None or str(error.got) in error.what:
        return error.what
    return f"{error.what}: {error.got} instead of {error.expected}"
