"""Default settings of regression."""

from __future__ import annotations

from opsin.tasks import common_defaults as common
from opsin.tasks.common_defaults import Defaults, Described, Start
from opsin.types import Layer

WITHOUT_SMOOTHING = {"label_smoothing": 0.0}
OURS: Layer = {"lr": 0.05, "lr_other": 0.005, "warmup": 0.1}
"""Squared errors have larger gradients than cross-entropy: half the rate, and a warm-up."""


def number_defaults(dataset: Described, model: str | None) -> Layer:
    """Settings for numbers. Nothing is augmented: what leaves a number as it is depends on what it says."""
    settings: Layer = {"input_size": common.PHOTO_SIDE_PX} if common.are_photos(dataset) else {}
    ours = common.SMALL | common.length_settings(dataset) | OURS
    return settings | common.network_settings(ours, model) | WITHOUT_SMOOTHING


def number_finetune_defaults(start: Start) -> Layer:
    """The same from pretrained weights."""
    return {**common.weights_settings(start), **WITHOUT_SMOOTHING}


DEFAULTS = Defaults(from_scratch=number_defaults, from_weights=number_finetune_defaults)


def shown_defaults() -> dict[str, Layer]:
    """Settings by kind of data, for `--help`."""
    return common.shown_by_kind(number_defaults)
