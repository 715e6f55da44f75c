"""Small values that every room of the house shares. No torch, no files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
    keeps: 0.875 is the published evaluation of ImageNet networks, a short side of 256 of which the middle 224 stay.
    """

    height: int
    width: int
    fit: FitName = "squash"
    crop_share: float = 1.0


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
    """A score as JSON has it: value, low and high; null for undefined."""
    return {"value": plain_number(score.value), "low": plain_number(score.low), "high": plain_number(score.high)}


def plain_number(value: float) -> float | None:
    """A number as JSON has it: null for NaN."""
    return None if math.isnan(value) else float(value)


def plain_numbers(values: Iterable[float]) -> list[float | None]:
    """Numbers as JSON has them: null for NaN."""
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
    """What a network says of one image.

    `file` is its path; JSON holds that as `text.text_of` writes it. `top` holds the (label, probability) pairs of the
    likeliest classes, best first. `box` is xyxy in pixels of the original image. `mask` is where a mask was written, if
    one was. `notes` says what was done to the image. `shares` holds the probability of every class, in the network's
    order (of masks: the share of the pixels), which JSON leaves out.

    What only a cautious prediction has, else None: `possible` holds the labels of the prediction set, likeliest first
    (none, where even the likeliest is too unlikely); `answered` says whether the answer is to be used; `typicality` is
    the share of val images that are at least as unlike the training images as this one.
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

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; what only a cautious prediction has is left out of others."""
        cautious = {"possible", "answered", "typicality"}
        plain = {key: value for key, value in asdict(self).items() if key != "shares"}
        return {key: value for key, value in plain.items() if key not in cautious or value is not None}
