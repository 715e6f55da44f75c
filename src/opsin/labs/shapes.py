"""Pictures that the code makes, for quick forms of labs about colour photos: shapes on cluttered ground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPES = ("disc", "ring", "square", "cross", "triangle")
COLOURS = {"red": (200, 60, 60), "blue": (70, 90, 205)}
Floats = NDArray[np.float64]


def write_shapes(
    path: Path, count: int, *, num_test: int = 0, side_px: int = 32, coloured: bool = False, seed: int = 0
) -> str:
    """Write `count` pictures as a data set that `opsin.load` reads, unless they are there; returns its path.

    Args:
        path: an .npz: images uint8 [N, side_px, side_px, 3], labels, classes.
        count: pictures, of all classes alike.
        num_test: so many of them are a test split of its own; with 0 the splits are left to be drawn.
        side_px: side of each.
        coloured: ten classes, a shape in a colour each; otherwise five, the shapes, in either colour.
        seed: of places, sizes, turns and clutter. Pictures do not depend on `coloured`.
    """
    if path.is_file():
        return str(path)
    generator = np.random.default_rng(seed)
    kinds = np.arange(count) % (len(SHAPES) * len(COLOURS))
    images = np.stack([_picture(int(kind), side_px, generator) for kind in kinds])
    fine = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
    classes, labels = (fine, kinds) if coloured else (list(SHAPES), kinds // len(COLOURS))
    train = count - num_test
    arrays: dict[str, NDArray[Any]] = {"images": images[:train], "labels": labels[:train]}
    if num_test:
        arrays = {f"train_{key}": array for key, array in arrays.items()}
        arrays |= {"test_images": images[train:], "test_labels": labels[train:]}
    arrays["classes"] = np.array(classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **arrays)
    return str(path)


def _picture(kind: int, side_px: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """One picture: uint8 [side, side, 3]."""
    coarse = generator.integers(0, 256, (8, 8, 3))
    ground = coarse.repeat(-(-side_px // 8), 0).repeat(-(-side_px // 8), 1)[:side_px, :side_px]
    colour = np.array(list(COLOURS.values())[kind % len(COLOURS)])
    inside = _inside(SHAPES[kind // len(COLOURS)], *_plane(side_px, generator))
    front = np.where(inside[..., None], colour, ground * 0.6 + 50)
    return np.clip(front + generator.normal(0, 25, front.shape), 0, 255).astype(np.uint8)


def _plane(side_px: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Coordinates [side, side] of the pixels, seen from a shape of radius 1 that is moved, turned and scaled."""
    radius = side_px * generator.uniform(0.25, 0.4)
    middle = side_px / 2 + generator.uniform(-0.12, 0.12, 2) * side_px
    turn = generator.uniform(0, 2 * np.pi)
    down, right = np.mgrid[:side_px, :side_px].astype(np.float64)
    y, x = (down - middle[0]) / radius, (right - middle[1]) / radius
    return x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)


def _inside(shape: str, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Which pixels lie inside the shape."""
    distance, across = np.hypot(x, y), np.maximum(np.abs(x), np.abs(y))
    if shape == "disc":
        return distance < 0.9
    if shape == "ring":
        return (distance < 1.0) & (distance > 0.55)
    if shape == "square":
        return across < 0.75
    if shape == "cross":
        return (across < 1.0) & (np.minimum(np.abs(x), np.abs(y)) < 0.3)
    return (y < 0.6) & (np.abs(x) < (y + 1.0) * 0.65)
