"""Default settings of localization."""

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

SCENES: dict[str, Any] = {
    "model": "tiny",
    "epochs": 2,
    "batch_size": 250,
    "label_smoothing": 0.05,
    "lr": 0.06,
    "warmup": 0.03,
    "box_weight": 2.0,
}
"""Digit scenes have random positions already: no augmentation."""


def box_defaults(dataset: Dataset, model: str | None) -> dict[str, Any]:
    """Settings for one object per image. No augmentation cuts off parts of the object, as random crops would."""
    photos = are_photos(dataset)
    settings: dict[str, Any] = {"flip": 0.5, "input_size": PHOTO_SIDE_PX} if photos else {}
    scenes = dataset.published and dataset.name == "digit_scenes"
    return settings | network_settings(SMALL | (SCENES if scenes else PHOTOS if photos else FEW_SAMPLES), model)


def box_finetune_defaults(start: Start) -> dict[str, Any]:
    """The same from pretrained weights."""
    photos, head_alone = are_photos(start.dataset), start.way == "head"
    side = side_of_weights(start.expected.height, photos=photos, head_alone=head_alone)
    return {"input_size": side, **(HEAD if head_alone else WHOLE)} | ({"flip": 0.5} if photos else {})
