"""Default settings of classification."""

from __future__ import annotations

from opsin.tasks import common_defaults as common
from opsin.tasks.common_defaults import Defaults, Described, Start
from opsin.types import Layer

AUGMENTATION: dict[str, Layer] = {
    "digits": {"shift": 1},
    "mnist": {"shift": 2, "rotate": 10.0, "scale": 0.1, "shear": 5.0},
    "fashion-mnist": {"shift": 2, "flip": 0.5},
    "cifar10": {"shift": 2, "flip": 0.5},
    "cifar100": {"shift": 2, "flip": 0.5},
}
"""Augmentation that preserves the labels of each data set."""
PHOTO_AUGMENTATION: Layer = {"flip": 0.5, "crop_area": 0.35}
BY_NAME: dict[str, Layer] = {
    "digits": {"filters": [32, 64], "epochs": 30, "batch_size": 64, "label_smoothing": 0.1},
    "mnist": {"model": "tiny", "epochs": 7, "batch_size": 250, "label_smoothing": 0.05, "lr": 0.06, "warmup": 0.03},
    "fashion-mnist": {"epochs": 10},
    "cifar10": {"filters": [48, 128, 256], "epochs": 26, "resolutions": [20, 24, 32]},
    "cifar100": {"filters": [48, 128, 256], "epochs": 24, "resolutions": [20, 24, 32]},
}
"""Network, training length and further settings of each data set."""
WHOLE_PHOTOS: Layer = {"flip": 0.5, "crop_area": 0.5}
SMALL_IMAGES: Layer = {"flip": 0.5, "shift": 8}
FLIPPED = ("cifar10", "cifar100")
"""Catalogue sets of small images that may be mirrored."""


def class_defaults(dataset: Described, model: str | None) -> Layer:
    """Settings for one label for each image."""
    name, photos = dataset.name if dataset.published else "", common.are_photos(dataset)
    settings: Layer = {**AUGMENTATION.get(name, PHOTO_AUGMENTATION if photos else {"shift": 2})}
    if photos:
        settings["input_size"] = common.PHOTO_SIDE_PX
    return settings | common.network_settings(common.SMALL | BY_NAME.get(name, common.length_settings(dataset)), model)


def class_finetune_defaults(start: Start) -> Layer:
    """The same from pretrained weights; frozen features are computed once, without augmentation."""
    dataset, settings = start.dataset, {**common.weights_settings(start), "fit": start.expected.fit}
    if common.features_once(start):
        return settings
    if common.are_photos(dataset):
        return settings | WHOLE_PHOTOS
    return settings | (SMALL_IMAGES if dataset.published and dataset.name in FLIPPED else {})


DEFAULTS = Defaults(from_scratch=class_defaults, from_weights=class_finetune_defaults)


def shown_defaults() -> dict[str, Layer]:
    """Settings by kind of data, for `--help`."""
    return common.shown_by_kind(class_defaults, *BY_NAME)
