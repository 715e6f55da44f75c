"""Exact copies in an undivided set, found before anything is decoded, so that a drawn split never tears them apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress

import numpy as np

from opsin.data.samples import ArraySource, FileSource, Ints, Source
from opsin.errors import InputError
from opsin.io.files import sha256_file


def first_copies(source: Source) -> Ints | None:
    """For each sample the number of the first one with the same bytes, int64 `[N]`; None when all differ.

    Files are equal when their bytes are: only files of one length are hashed. Arrays are equal when their pixels are.
    Pictures that are equal although their files differ are left to the audit.
    """
    same = _same_file(source) if isinstance(source, FileSource) else _same_pixels(source)
    first: dict[Hashable, int] = {}
    numbers = np.array([first.setdefault(same(i), i) for i in range(len(source))], np.int64)
    return None if len(first) == len(source) else numbers


def _same_file(source: FileSource) -> Callable[[int], Hashable]:
    lengths = [_length(source, i) for i in range(len(source))]
    shared = Counter(lengths)

    def same(i: int) -> Hashable:
        if lengths[i] is not None and shared[lengths[i]] > 1:
            with suppress(InputError):  # named when the split is packed
                return sha256_file(source.paths[i])
        return i

    return same


def _length(source: FileSource, i: int) -> int | None:
    with suppress(OSError):
        return source.paths[i].stat().st_size
    return None


def _same_pixels(source: Source) -> Callable[[int], Hashable]:
    if not isinstance(source, ArraySource):
        return lambda i: i
    return lambda i: hashlib.blake2b(np.ascontiguousarray(source.images[i]).data, digest_size=16).digest()
