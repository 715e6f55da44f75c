"""Default settings of classification."""

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

AUGMENTATION: dict[str, dict[str, Any]] = {
    "digits": {"shift": 1},
    "mnist": {"shift": 2, "rotate": 10.0, "scale": 0.1, "shear": 5.0},
    "fashion-mnist": {"shift": 2, "flip": 0.5},
    "cifar10": {"shift": 2, "flip": 0.5},
    "cifar100": {"shift": 2, "flip": 0.5},
}
"""Augmentation that preserves the labels of each data set."""
PHOTO_AUGMENTATION = {"flip": 0.5, "crop_area": 0.35}
BY_NAME: dict[str, dict[str, Any]] = {
    "digits": {"filters": [32, 64], "epochs": 30, "batch_size": 64, "label_smoothing": 0.1},
    "mnist": {"model": "tiny", "epochs": 7, "batch_size": 250, "label_smoothing": 0.05, "lr": 0.06, "warmup": 0.03},
    "fashion-mnist": {"epochs": 10},
    "cifar10": {"filters": [48, 128, 256], "epochs": 26, "resolutions": [20, 24, 32]},
    "cifar100": {"filters": [48, 128, 256], "epochs": 24, "resolutions": [20, 24, 32]},
}
"""Network, training length and further settings of each data set."""
WHOLE_PHOTOS: dict[str, Any] = {"flip": 0.5, "crop_area": 0.5}
SMALL_IMAGES: dict[str, Any] = {"flip": 0.5, "shift": 8}
FLIPPED = ("cifar10", "cifar100")
"""Catalogue sets of small images that may be mirrored."""


def class_defaults(dataset: Dataset, model: str | None) -> dict[str, Any]:
    """Settings for one label for each image."""
    name, photos = dataset.name if dataset.published else "", are_photos(dataset)
    settings = dict(AUGMENTATION.get(name, PHOTO_AUGMENTATION if photos else {"shift": 2}))
    if photos:
        settings["input_size"] = PHOTO_SIDE_PX
    return settings | network_settings(SMALL | BY_NAME.get(name, PHOTOS if photos else FEW_SAMPLES), model)


def class_finetune_defaults(start: Start) -> dict[str, Any]:
    """The same from pretrained weights; frozen features are computed once, without augmentation."""
    dataset, photos, head_alone = start.dataset, are_photos(start.dataset), start.way == "head"
    side = side_of_weights(start.expected.height, photos=photos, head_alone=head_alone)
    settings: dict[str, Any] = {"input_size": side, **(HEAD if head_alone else WHOLE), "fit": start.expected.fit}
    if head_alone and int(start.given.get("feature_views") or 1) <= 1:
        return settings
    if photos:
        return settings | WHOLE_PHOTOS
    return settings | (SMALL_IMAGES if dataset.published and dataset.name in FLIPPED else {})
