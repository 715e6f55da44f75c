"""Default settings of multi-label classification."""

from __future__ import annotations

from opsin.tasks import common_defaults as common
from opsin.tasks.common_defaults import Defaults, Described, Start
from opsin.types import Layer

WITHOUT_SMOOTHING = {"label_smoothing": 0.0}
"""No smoothing: it pulls probabilities towards 1/2, far from the truth where most classes are absent."""
SCENES: Layer = {"model": "tiny", "epochs": 4, "batch_size": 250, "lr": 0.06, "warmup": 0.03}
"""Digit scenes have random positions already."""
BY_NAME: dict[str, Layer] = {"digit_tags": SCENES}


def tag_defaults(dataset: Described, model: str | None) -> Layer:
    """Settings for the classes of an image. Nothing here cuts a part of it off, as random crops would."""
    settings: Layer = {"flip": 0.5, "input_size": common.PHOTO_SIDE_PX} if common.are_photos(dataset) else {}
    known = BY_NAME.get(dataset.name) if dataset.published else None
    return settings | common.network_settings(
        common.SMALL | WITHOUT_SMOOTHING | (known or common.length_settings(dataset)), model
    )


def tag_finetune_defaults(start: Start) -> Layer:
    """The same from pretrained weights."""
    flipped = common.are_photos(start.dataset) and not common.features_once(start)
    return {**common.weights_settings(start), **WITHOUT_SMOOTHING} | ({"flip": 0.5} if flipped else {})


DEFAULTS = Defaults(from_scratch=tag_defaults, from_weights=tag_finetune_defaults)


def shown_defaults() -> dict[str, Layer]:
    """Settings by kind of data, for `--help`."""
    return common.shown_by_kind(tag_defaults, *BY_NAME)
