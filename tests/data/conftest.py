"""Small data sets, made by the code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from opsin.io.images import encode_png

Photos = Callable[..., Path]


def picture(seed: int, height: int = 12, width: int = 10) -> np.ndarray:
    """A smooth random uint8 [3, height, width]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    return coarse.repeat(-(-height // 4), 1).repeat(-(-width // 4), 2)[:, :height, :width]


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """Makes a folder of class folders: `photos({"cat": 3, "train/dog": 2})`; every picture is another one."""
    made = 0

    def make(counts: dict[str, int], name: str = "photos", **size: int) -> Path:
        nonlocal made
        for folder, count in counts.items():
            where = tmp_path / name / folder
            where.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                made += 1
                (where / f"{i}.png").write_bytes(encode_png(picture(made, **size)))
        return tmp_path / name

    return make
