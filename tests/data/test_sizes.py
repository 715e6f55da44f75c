"""Which size the images of a folder share, and what follows for a run's defaults."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from opsin.data.load import load
from opsin.io.images import encode_png
from opsin.training.setup.defaults import defaults_for


def folder_of(root: Path, *sizes: tuple[int, int]) -> Path:
    """Two classes with twenty images of noise each; the last images have the sizes given last."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(20):
            height, width = sizes[min(i, len(sizes) - 1)]
            pixels = generator.integers(0, 255, (3, height, width), dtype=np.uint8)
            (root / name / f"{i}.png").write_bytes(encode_png(pixels))
    return root


def test_files_of_one_size_tell_it(tmp_path: Path) -> None:
    assert load(folder_of(tmp_path / "x", (28, 30))).size == (28, 30)


def test_files_of_several_sizes_have_none(tmp_path: Path) -> None:
    assert load(folder_of(tmp_path / "x", (28, 30), (28, 28))).size is None


def test_small_drawings_in_a_folder_are_neither_enlarged_nor_mirrored(tmp_path: Path) -> None:
    settings = defaults_for(load(folder_of(tmp_path / "x", (28, 28))))
    assert "input_size" not in settings
    assert "flip" not in settings


def test_photos_in_a_folder_are_brought_to_one_size(tmp_path: Path) -> None:
    settings = defaults_for(load(folder_of(tmp_path / "x", (120, 160), (90, 90))))
    assert settings["input_size"] == 96
    assert settings["flip"] == 0.5
