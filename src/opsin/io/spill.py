"""Arrays that need not fit into memory: in a file of the cache folder that has no name, and is gone with the array."""

from __future__ import annotations

import math
import os
import tempfile
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from opsin.errors import WriteError
from opsin.io.caches import default_cache
from opsin.io.gate import printable

IN_MEMORY_BYTES = 1 << 26
"""Arrays up to this size are in memory."""


Number = TypeVar("Number", np.uint8, np.float32)


def zeros(shape: tuple[int, ...], dtype: type[Number]) -> NDArray[Number]:
    """An array of zeros: in memory, or, where it is larger than `IN_MEMORY_BYTES`, a map of a file without a name.

    The system keeps as much of such a file in memory as is free, and takes it back when others need it.

    Raises:
        WriteError: there is no room for the file.
    """
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if num_bytes <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    place = default_cache()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now; later it would be a signal
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:
                file.truncate(num_bytes)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        what = f"there is no room for {num_bytes / 2**20:,.0f} MiB that do not fit into memory"
        do = "free some space, or set OPSIN_CACHE to a folder on another disk"
        raise WriteError(what, where=place, got=printable(error), do=do) from error
