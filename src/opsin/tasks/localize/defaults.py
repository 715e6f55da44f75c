"""Default settings of localization."""

from __future__ import annotations

from opsin.tasks import common_defaults as common
from opsin.tasks.common_defaults import Defaults, Described, Start
from opsin.types import Layer

SCENES: Layer = {
    "model": "tiny",
    "epochs": 2,
    "batch_size": 250,
    "label_smoothing": 0.05,
    "lr": 0.06,
    "warmup": 0.03,
    "box_weight": 2.0,
}
"""Digit scenes have random positions already: no augmentation."""


def box_defaults(dataset: Described, model: str | None) -> Layer:
    """Settings for one object in each image. Nothing here cuts a part of the object off, as random crops would."""
    settings: Layer = {"flip": 0.5, "input_size": common.PHOTO_SIDE_PX} if common.are_photos(dataset) else {}
    scenes = dataset.published and dataset.name == "digit_scenes"
    return settings | common.network_settings(
        common.SMALL | (SCENES if scenes else common.length_settings(dataset)), model
    )


def box_finetune_defaults(start: Start) -> Layer:
    """The same from pretrained weights."""
    return common.weights_settings(start) | ({"flip": 0.5} if common.are_photos(start.dataset) else {})


DEFAULTS = Defaults(from_scratch=box_defaults, from_weights=box_finetune_defaults)


def shown_defaults() -> dict[str, Layer]:
    """Settings by kind of data, for `--help`."""
    return common.shown_by_kind(box_defaults, "digit_scenes")
