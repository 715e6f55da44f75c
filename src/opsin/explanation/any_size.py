"""Fully convolutional networks: conversion of a run, check of equal outputs, and prediction maps of photos."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from opsin import artifact as artifacts
from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.errors import CheckFailedError, ConfigError
from opsin.explanation.axes import pale, show_photo
from opsin.figures import figure_to
from opsin.io.files import write_atomically
from opsin.io.images import read_image
from opsin.io.tensors import read_tensors
from opsin.models.convert import FullyConvolutional, fully_convolutional
from opsin.models.parts.network import Network
from opsin.models.registry import FULLY_CONVOLUTIONAL
from opsin.ops.depth import as_batch, at_depth
from opsin.runs import RUNS_FOLDER, Run, RunWriter, next_name
from opsin.types import JsonDict, SizePolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOLERANCE = 1e-5
NUM_RANDOM = 16
DEFAULT_ENLARGEMENT = 4
MAX_LISTED = 6


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A run whose network takes images of any size, converted from another run.

    `max_difference`: largest difference between the outputs of the two networks, on random images and on the golden
    ones, at the training size. `largest_output`: largest output, for comparison.
    """

    run: Run
    artifact: Artifact
    max_difference: float
    largest_output: float


def convert_run(run: Run, *, name: str | None = None, out: Path | str = RUNS_FOLDER) -> Converted:
    """Make a new run whose dense layers are convolutions; `run` is unchanged.

    Raises:
        ConfigError: the network is not one that can be converted, or is converted already.
        CheckFailedError: the outputs differ by more than `TOLERANCE` (of the largest output, where that is above 1).
    """
    artifact = artifacts.load(run.model_folder)
    if not isinstance(artifact.network, Network):
        got = f"{artifact.task} by a {type(artifact.network).__name__}"
        raise ConfigError("this network cannot be converted", where=run.path, got=got, expected="a classifier")
    network = fully_convolutional(artifact.network).eval()
    golden = read_tensors(run.model_folder / "golden.safetensors")[0]["images"]
    difference, largest = compare(artifact, network, golden)
    if not difference <= TOLERANCE * max(1.0, largest):
        raise CheckFailedError("the outputs of the converted network differ", got=difference, expected=TOLERANCE)
    spec = replace(artifact.spec, options={**artifact.spec.options, FULLY_CONVOLUTIONAL: True})
    about = {"converted_from": str(run.path), "max_difference": difference}
    meta = {**artifact.meta, **about}
    made = replace(artifact, network=network, spec=spec, meta=meta)
    new = RunWriter.create(run.config, name=name or next_name(f"{run.name}-any-size", out), out=out)
    new.environment(run.environment)
    new.data(run.data)
    artifacts.save(new.model_folder, made, golden_images=golden)
    command = shlex.join(["opsin", "convert", str(run.path), "--fully-convolutional", "--name", new.name])
    new.summary(
        replace(
            run.summary,
            run=str(new.path),
            command=command,
            converted_from=str(run.path),
            max_difference=difference,
        )
    )
    # equal outputs mean equal scores, predictions and fitted values
    for file in ("predictions.npz", "gallery.npz", "scores.json"):
        if (run.path / file).is_file():
            write_atomically(new.path / file, (run.path / file).read_bytes())
    new.event("convert", source=str(run.path), max_difference=difference, test_openings=run.log.test_openings)
    return Converted(run=new.run, artifact=made, max_difference=difference, largest_output=largest)


@torch.inference_mode()
def compare(artifact: Artifact, network: FullyConvolutional, golden: torch.Tensor) -> tuple[float, float]:
    """Largest difference between the outputs of two networks at the training size, and the largest output.

    Args:
        artifact: the one network and its preprocessing.
        network: the other.
        golden: uint8 [n, C, H, W]; random images are compared too.
    """
    generator = torch.Generator().manual_seed(0)
    random = torch.randint(0, 256, (NUM_RANDOM, *golden.shape[1:]), dtype=torch.uint8, generator=generator)
    images = artifact.input(torch.cat([golden, random]))
    before, after = artifact.network.eval()(images), network(images)
    difference = max(float((after[key] - value).abs().max()) for key, value in before.items())
    return difference, max(float(value.abs().max()) for value in before.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionMap:
    """The predictions of a network at every position of an image.

    `pixels`: uint8 [C, H, W], the photo at the processed size. `probabilities`: float32 [K, h, w].
    `window`: (height, width) of each position, the training size. `strides`: pixels between positions, down and right.
    """

    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    window: tuple[int, int]
    strides: tuple[float, float]

    @property
    def top(self) -> list[int]:
        """Classes that are the likeliest at some position, most frequent first."""
        counts = np.bincount(self.probabilities.argmax(axis=0).ravel(), minlength=len(self.classes))
        return [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        places = self.probabilities[0].size
        counts = np.bincount(self.probabilities.argmax(axis=0).ravel(), minlength=len(self.classes))
        return {
            "height": self.probabilities.shape[1],
            "width": self.probabilities.shape[2],
            "image": list(self.pixels.shape[1:]),
            "window": list(self.window),
            "strides": list(self.strides),
            "shares": {self.classes[k]: float(counts[k] / places) for k in self.top},
        }


def map_predictions(artifact: Artifact, image: Path, *, short_side: int | None = None) -> PredictionMap:
    """Predictions of a converted network at every position of a photo.

    Args:
        artifact: artefact of a converted network.
        image: the photo.
        short_side: processed size of the photo, in pixels; objects should be about as large as the training
            images. By default four times the training size.

    Raises:
        ImageError: the photo cannot be read.
        ConfigError: the photo is smaller than the training images.
    """
    network = cast("FullyConvolutional", artifact.network)
    side = short_side or DEFAULT_ENLARGEMENT * min(network.height, network.width)

    def sides(height: int, width: int) -> tuple[int, int]:
        scale = side / min(height, width)
        return max(1, round(scale * height)), max(1, round(scale * width))

    bits = artifact.preprocess.size.bits
    decoded = read_image(image, sides=sides, bits=bits)
    height, width = sides(*decoded.size)
    whole: Preprocess = replace(artifact.preprocess, size=SizePolicy(height=height, width=width, bits=bits))
    pixels = whole.fit_image(decoded.pixels, decoded.size)
    with torch.inference_mode():
        logits = network.eval().maps(whole(as_batch(pixels[None])))["logits"][0]
    rows, columns = logits.shape[1:]
    return PredictionMap(
        pixels=at_depth(pixels, 8),
        probabilities=logits.float().softmax(dim=0).numpy(),
        classes=artifact.classes,
        window=(network.height, network.width),
        strides=(_stride(height, network.height, rows), _stride(width, network.width, columns)),
    )


def _stride(size: int, window: int, places: int) -> float:
    """Pixels from one position to the next, where the first and last windows touch the borders."""
    return (size - window) / (places - 1) if places > 1 else float(window)


def draw_map(found: PredictionMap, path: Path, *, title: str) -> None:
    """Write the heat map as a PNG: the photo with one window, the likeliest class, and each position's class."""
    _, height, width = found.pixels.shape
    ratio = min(max(height / width, 0.5), 1.6)
    best = found.top[0]
    with figure_to(path, 13, 13 / 3 * ratio + 1.1) as figure:
        photo, heat, classes = figure.subplots(1, 3)
        show_photo(photo, found.pixels)
        for axis in (heat, classes):
            show_photo(axis, pale(found.pixels))
        _draw_window(photo, found)
        shares = np.clip(found.probabilities[best], 0, 1)
        shown = heat.imshow(shares, extent=_extent(found), cmap="magma", vmin=0, vmax=1, alpha=0.65)
        figure.colorbar(shown, ax=heat, shrink=0.8, label="probability")
        rows, columns = shares.shape
        heat.set_title(f"probability of {found.classes[best]} at {rows} x {columns} positions")
        _draw_classes(classes, found)
        figure.suptitle(title)


def _draw_window(axis: Axes, found: PredictionMap) -> None:
    from matplotlib.patches import Rectangle

    height, width = found.window
    axis.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor="#d55e00", linewidth=2))
    axis.set_title(
        f"processed at {found.pixels.shape[1]} x {found.pixels.shape[2]}; orange: one window of {height} x {width}"
    )


def _draw_classes(axis: Axes, found: PredictionMap) -> None:
    """The likeliest class of each position; the most frequent are named, the others grey."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    named = found.top[:MAX_LISTED]
    palette = [*colormaps["tab10"].colors[: len(named)], (0.6, 0.6, 0.6)]  # type: ignore[attr-defined]
    places: Mapping[int, int] = {k: number for number, k in enumerate(named)}
    numbers = np.vectorize(lambda k: places.get(int(k), len(named)))(found.probabilities.argmax(axis=0))
    axis.imshow(
        numbers, extent=_extent(found), cmap=ListedColormap(palette), vmin=-0.5, vmax=len(palette) - 0.5, alpha=0.65
    )
    names = [found.classes[k] for k in named] + (["others"] if len(found.top) > len(named) else [])
    patches = [Patch(color=colour, label=name) for colour, name in zip(palette, names, strict=False)]
    axis.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=min(4, len(patches)))
    axis.set_title("likeliest class at each position")


def _extent(found: PredictionMap) -> tuple[float, float, float, float]:
    """The extent of the map on the photo: each position at the centre of its window."""
    (height, width), (down, right) = found.window, found.strides
    _, rows, columns = found.probabilities.shape
    left, top = width / 2 - right / 2, height / 2 - down / 2
    return left, left + right * columns, top + down * rows, top
