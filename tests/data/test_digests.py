"""Which packed images are hashed in full to find copies: all copies, and hardly any other."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.data.digests import COMPARED_BYTES, digest, digests_of_copies


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (3, 8, 8), (3, 48, 48)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_copies_are_hashed_within_and_across_parts(shape: tuple[int, int, int], dtype: type[np.integer]) -> None:
    rng = np.random.default_rng(3)
    train, test = (rng.integers(0, np.iinfo(dtype).max, (n, *shape), dtype) for n in (40, 9))
    train[7], test[4] = train[30], train[12]
    hashed = digests_of_copies([train, test])
    for part, rows in zip((train, test), hashed, strict=True):
        assert all(value in (None, digest(image)) for image, value in zip(part, rows, strict=True))
    assert hashed[0][7] == hashed[0][30] is not None
    assert hashed[1][4] == hashed[0][12] is not None
    if shape[1] >= 8:
        assert sum(value is not None for rows in hashed for value in rows) == 4


def test_images_that_differ_outside_the_bytes_compared_first_are_no_copies() -> None:
    images = np.zeros((3, 3, 64, 64), np.uint8)
    assert images[0].nbytes > COMPARED_BYTES
    images[1, 0, 0, 0] = 1
    first, second, third = digests_of_copies([images])[0]
    assert first == third
    assert first != second


def test_parts_may_be_empty() -> None:
    empty = np.empty((0, 3, 8, 8), np.uint8)
    assert digests_of_copies([]) == []
    assert digests_of_copies([empty, empty]) == [[], []]
