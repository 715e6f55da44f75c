"""Default settings of multi-label classification."""

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
"""No smoothing: it pulls probabilities towards 1/2, far from the truth where most classes are absent."""
SCENES: dict[str, Any] = {"model": "tiny", "epochs": 4, "batch_size": 250, "lr": 0.06, "warmup": 0.03}
"""Digit scenes have random positions already."""
BY_NAME: dict[str, dict[str, Any]] = {"digit_tags": SCENES}


def tag_defaults(dataset: Dataset, model: str | None) -> dict[str, Any]:
    """Settings for the classes of an image. No augmentation cuts off parts of it, as random crops would."""
    photos = are_photos(dataset)
    settings: dict[str, Any] = {"flip": 0.5, "input_size": PHOTO_SIDE_PX} if photos else {}
    known = BY_NAME.get(dataset.name) if dataset.published else None
    return settings | network_settings(
        SMALL | WITHOUT_SMOOTHING | (known or (PHOTOS if photos else FEW_SAMPLES)), model
    )


def tag_finetune_defaults(start: Start) -> dict[str, Any]:
    """The same from pretrained weights."""
    photos, head_alone = are_photos(start.dataset), start.way == "head"
    side = side_of_weights(start.expected.height, photos=photos, head_alone=head_alone)
    settings = {"input_size": side, **(HEAD if head_alone else WHOLE), **WITHOUT_SMOOTHING}
    return settings | ({"flip": 0.5} if photos else {})
