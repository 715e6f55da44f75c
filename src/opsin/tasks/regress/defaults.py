"""Default settings of regression."""

from __future__ import annotations

from typing import Any

from opsin.data.samples import Dataset
from opsin.tasks.base import Start
from opsin.tasks.common_defaults import (
    FEW_SAMPLES,
    HEAD,
    PHOTO_SIDE_PX,
    PHOTOS,
    SMALL,
    WHOLE,
    are_photos,
    network_settings,
    side_of_weights,
)

WITHOUT_SMOOTHING = {"label_smoothing": 0.0}
OURS: dict[str, Any] = {"lr": 0.05, "lr_other": 0.005, "warmup": 0.1}
"""Squared errors have larger gradients than cross-entropy: half the rate, and a warm-up."""


def number_defaults(dataset: Dataset, model: str | None) -> dict[str, Any]:
    """Settings for numbers. No augmentation: which changes preserve a number depends on its meaning."""
    photos = are_photos(dataset)
    settings: dict[str, Any] = {"input_size": PHOTO_SIDE_PX} if photos else {}
    ours = SMALL | (PHOTOS if photos else FEW_SAMPLES) | OURS
    return settings | network_settings(ours, model) | WITHOUT_SMOOTHING


def number_finetune_defaults(start: Start) -> dict[str, Any]:
    """The same from pretrained weights."""
    photos, head_alone = are_photos(start.dataset), start.way == "head"
    side = side_of_weights(start.expected.height, photos=photos, head_alone=head_alone)
    return {"input_size": side, **(HEAD if head_alone else WHOLE), **WITHOUT_SMOOTHING}
