"""Small values shared by all packages. No torch, no files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

JsonDict = dict[str, Any]
"""An object of plain JSON: texts, numbers, booleans, None, lists and further objects by name."""
JsonMapping = Mapping[str, Any]
"""The same, to be read only."""
Layer = dict[str, object]
"""Settings by name, which `opsin.config.resolve` checks."""
TaskName = str
"""Name of a package in `opsin.tasks`."""
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
FitName = Literal["squash", "crop", "pad"]
VOID = 255
"""Mask value that every loss and every score ignores."""
LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey. Source: ITU-R BT.601, as in Pillow's mode L."""


@dataclass(frozen=True, kw_only=True)
class SizePolicy:
    """How an image of any size becomes `[C, height, width]`.

    `squash` resizes both sides and changes the aspect ratio; `crop` resizes the short side and cuts the centre;
    `pad` resizes the long side and fills the rest with black. `crop_share` is the share of the short side that `crop`
    keeps: 0.875 is the published evaluation of ImageNet networks, a short side of 256 with a centre crop of 224.
    `bits` a channel, 8 or 16, are decoded, resampled and kept (`ops/depth.py`).
    """

    height: int
    width: int
    fit: FitName = "squash"
    crop_share: float = 1.0
    bits: int = field(default=8, repr=False)

    def to_dict(self) -> JsonDict:
        """As plain JSON; without `bits` where they are 8, as artefacts and keys of caches were before there were 16."""
        plain = asdict(self)
        return plain if self.bits != 8 else {key: value for key, value in plain.items() if key != "bits"}


@dataclass(frozen=True)
class Score:
    """A score with its 95 % confidence interval. An undefined score is NaN and prints as "n/a"."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "n/a"
        if math.isnan(self.low):
            return f"{self.value:.4f}"
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def scores_to_json(scores: Mapping[str, Score]) -> dict[str, dict[str, float | None]]:
    """Scores as plain JSON: value, low and high of each; None for undefined."""
    return {name: plain_score(score) for name, score in scores.items()}


def scores_from_json(entry: Mapping[str, Mapping[str, float | None]]) -> dict[str, Score]:
    """The inverse of `scores_to_json`: None becomes NaN."""
    return {
        name: Score(*(number_of(values[key]) for key in ("value", "low", "high"))) for name, values in entry.items()
    }


def plain_score(score: Score) -> dict[str, float | None]:
    """A score as JSON: value, low and high; null for undefined."""
    return {"value": plain_number(score.value), "low": plain_number(score.low), "high": plain_number(score.high)}


def plain_number(value: float) -> float | None:
    """A number as JSON: null for NaN."""
    return None if math.isnan(value) else float(value)


def plain_numbers(values: Iterable[float]) -> list[float | None]:
    """Numbers as JSON: null for NaN."""
    return [plain_number(value) for value in values]


def number_of(value: float | None) -> float:
    """The inverse of `plain_number`."""
    return math.nan if value is None else float(value)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that was not predicted, and why."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction for one image.

    `file` is its path; in JSON as written by `text.text_of`. `top`: (label, probability) pairs of the
    likeliest classes, best first. `box` is xyxy in pixels of the original image. `mask` is the path of the written
    mask, if any. `notes`: changes made to the image. `shares`: the probability of every class, in the network's
    order (for masks the share of the pixels); not in JSON.

    Cautious predictions only, else None: `possible`: labels of the prediction set, likeliest first
    (empty if even the likeliest is too unlikely); `answered`: whether to use the prediction; `typicality`:
    the share of val images at least as unlike the training images as this one.
    """

    file: str
    label: str
    score: float
    top: tuple[tuple[str, float], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None
    notes: tuple[str, ...] = ()
    shares: tuple[float, ...] = field(default=(), repr=False)
    possible: tuple[str, ...] | None = None
    answered: bool | None = None
    typicality: float | None = None

    def to_json(self) -> JsonDict:
        """As plain JSON; the fields of cautious predictions are left out of others."""
        cautious = {"possible", "answered", "typicality"}
        plain = {key: value for key, value in asdict(self).items() if key != "shares"}
        return {key: value for key, value in plain.items() if key not in cautious or value is not None}
