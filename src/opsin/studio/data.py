"""A data set: its images, classes, balance, copies, and what augmentation makes of it. The test split stays sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from opsin.api.augmented import augmented_sheet
from opsin.config import AugmentConfig, to_dict
from opsin.data.quality.audit import audit
from opsin.data.samples import Dataset, Source
from opsin.data.show import drawn_sample
from opsin.errors import InputError
from opsin.ops.resize import fit_image
from opsin.report.figures import share_bar
from opsin.server.refusal import RequestError
from opsin.studio.pages import address, choice, number, page, pager, picture, whole
from opsin.studio.state import studio_of
from opsin.training.setup.defaults import defaults_for
from opsin.types import SizePolicy, SplitName

SHOWN_SPLITS: tuple[SplitName, ...] = ("train", "val")
"""The test split is not leafed through: who has seen it chooses by it."""
THUMB_PX, LARGE_PX = 160, 640
SLIDERS: Mapping[str, tuple[float, float, str]] = {
    "flip": (1, 0.5, "mirrored: share of the epochs"),
    "shift": (32, 1, "largest shift, px"),
    "rotate": (90, 1, "largest rotation, degrees"),
    "scale": (0.9, 0.05, "largest change of scale"),
    "shear": (45, 1, "largest shear, degrees"),
    "brightness": (0.95, 0.05, "largest change of brightness"),
    "contrast": (0.95, 0.05, "largest change of contrast"),
    "saturation": (0.95, 0.05, "largest change of saturation"),
    "hue": (0.5, 0.01, "largest shift of hue, turns"),
    "blur": (4, 0.1, "largest blur, px"),
    "cutout": (64, 1, "side of a covered square, px"),
}
"""Settings of augmentation that have a slider: largest value, step, words; each is off at 0."""


def overview(request: Request) -> Response:
    """Facts and balance; loads the set."""
    key = request.path_params["key"]
    item, dataset = studio_of(request).sets.get(key), studio_of(request).sets.open(key)
    augment = defaults_for(dataset)
    sliders = [
        {"name": name, "most": most, "step": step, "words": words, "value": augment.get(name, 0)}
        for name, (most, step, words) in SLIDERS.items()
    ]
    splits = {name: len(source) for name, source in dataset.splits.items()}
    values: dict[str, Any] = {
        "item": item,
        "dataset": dataset,
        "splits": splits,
        "balance": balance(dataset),
        "sliders": sliders,
    }
    return page(request, "data_overview.html", **values)


def balance(dataset: Dataset) -> list[dict[str, Any]]:
    """Each class with its images in all splits, and a bar against the largest class."""
    counts = dataset.counts()
    totals = [sum(counts[split][k] for split in counts) for k in range(len(dataset.classes))] if counts else []
    most = max([1, *totals])
    return [
        {"number": k, "name": name, "total": totals[k], "bar": share_bar(totals[k] / most, "val")}
        for k, name in enumerate(dataset.classes if totals else ())
    ]


def grid(request: Request) -> Response:
    """One page of the images of a split, or of one class in it."""
    key = request.path_params["key"]
    dataset = studio_of(request).sets.open(key)
    split, source = _split(request, dataset)
    wanted = whole(request.query_params, "class", -1, low=-1, high=len(dataset.classes) - 1)
    numbers = np.arange(len(source)) if wanted < 0 or source.labels is None else np.flatnonzero(source.labels == wanted)
    shown = pager(request, len(numbers))
    names = dataset.classes
    cells = [
        {
            "address": address("data", key, "image", split, int(i)),
            "large": address("data", key, "image", split, int(i), side=LARGE_PX),
            "id": source.ids[i],
            "label": "" if source.labels is None else names[int(source.labels[i])],
        }
        for i in numbers[shown.span.start : shown.span.stop]
    ]
    values = {"key": key, "cells": cells, "pager": shown, "split": split, "wanted": wanted, "classes": names}
    values |= {
        "splits": [name for name in SHOWN_SPLITS if name in dataset.splits],
        "by_class": source.labels is not None,
    }
    return page(request, "grid.html", **values)


def image(request: Request) -> Response:
    """An image with its target drawn in, small, or as large as a screen."""
    dataset = studio_of(request).sets.open(request.path_params["key"])
    return sample_picture(request, dataset, request.path_params["split"])


def sample_picture(request: Request, dataset: Dataset, split: str) -> Response:
    """Sample `number` of a split, at most `side` pixels large."""
    if split not in dataset.splits or split not in SHOWN_SPLITS:
        raise RequestError(404, "no such split to show", got=split[:40])
    source, i = dataset.splits[split], request.path_params["number"]
    if not 0 <= i < len(source):
        raise RequestError(404, "no such image", got=i)
    side = whole(request.query_params, "side", THUMB_PX, low=16, high=LARGE_PX)
    try:
        pixels = drawn_sample(source, i, dataset.classes)
    except InputError as error:
        raise RequestError(404, "this image cannot be read", where=source.ids[i], got=error.what) from error
    return picture(shrunk(pixels, side))


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 [C, H, W] with its longer side at most `side`; never enlarged."""
    height, width = pixels.shape[1:]
    factor = side / max(height, width)
    if factor >= 1:
        return pixels
    size = SizePolicy(height=max(1, round(height * factor)), width=max(1, round(width * factor)))
    return fit_image(pixels, size)


def findings(request: Request) -> Response:
    """What is wrong with the set: decodes every image."""
    found = audit(studio_of(request).sets.open(request.path_params["key"]))
    return page(request, "findings_part.html", findings=found.findings)


def augmented(request: Request) -> Response:
    """Where the sheet of augmented images lies, for the sliders as they stand."""
    settings = {name: value for name, value in _augmentation(request).items() if value}
    shown = ", ".join(f"--{name} {value:g}" for name, value in settings.items())
    where = address("data", request.path_params["key"], "augmented.jpg", **settings)
    return page(request, "augmented_part.html", where=where, settings=shown)


def augmented_picture(request: Request) -> Response:
    """Training images, each as it is and as the network sees it."""
    dataset = studio_of(request).sets.open(request.path_params["key"])
    return picture(augmented_sheet(dataset, to_dict(AugmentConfig()) | _augmentation(request), seed=0))


def _augmentation(request: Request) -> dict[str, Any]:
    """The settings that the sliders give."""
    given = {name: number(request.query_params, name, low=0, high=most) for name, (most, _, _) in SLIDERS.items()}
    whole_ones = ("shift", "cutout")
    return {name: int(value or 0) if name in whole_ones else float(value or 0) for name, value in given.items()}


def _split(request: Request, dataset: Dataset) -> tuple[SplitName, Source]:
    here = tuple(name for name in SHOWN_SPLITS if name in dataset.splits)
    if not here:
        raise RequestError(404, "this set has a test split alone, which stays sealed")
    split = choice(request.query_params, "split", here)
    return split, dataset.splits[split]  # type: ignore[return-value, index]
