"""Default settings shared by tasks: for small images, photos, and networks chosen by the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsin.data.samples import Dataset

PHOTO_SIDE_PX = 96
"""Side of photos in pixels: enough for their content, feasible on two cores."""
SMALL_IMAGE_SIDE_PX = 96
"""Side of small images in pixels: networks made for 224 px halve their maps five times."""
WHOLE_NETWORK_SIDE_PX = 160
"""Side of photos where more than the head is trained, feasible on two cores."""

SMALL: dict[str, Any] = {
    "model": "small",
    "optimizer": "muon",
    "lr": 0.1,
    "lr_other": 0.01,
    "momentum": 0.7,
    "schedule": "linear",
    "warmup": 0.0,
    "batch_size": 500,
    "label_smoothing": 0.2,
}
"""The network for small images and its training."""
OTHER_NETWORKS: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "schedule": "one-cycle"}
"""Training of a network chosen by the user: robust settings."""
OURS = ("small", "tiny")
FEW_SAMPLES: dict[str, Any] = {"epochs": 30, "batch_size": 64}
PHOTOS: dict[str, Any] = {"epochs": 24, "batch_size": 64, "resolutions": [64, 96]}
HEAD: dict[str, Any] = {"epochs": 30, "batch_size": 64, "lr": 3e-3, "weight_decay": 0.02, "schedule": "cosine"}
"""A linear head on frozen features: an epoch takes under a second, and nothing but the head can overfit."""
WHOLE: dict[str, Any] = {"epochs": 6, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.05, "backbone_lr": 0.3}
"""More than the head: pretrained layers need lower rates than new ones."""


def are_photos(dataset: Dataset) -> bool:
    """Whether a data set has various or large image sizes; other data is used at its own size."""
    return dataset.size is None or max(dataset.size) > PHOTO_SIDE_PX


def network_settings(ours: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Settings of a data set's default network, or of the one chosen by the user."""
    if model in (None, ours["model"]):
        return dict(ours)
    return SMALL | FEW_SAMPLES | {"model": model} if model in OURS else dict(OTHER_NETWORKS)


def side_of_weights(expected_px: int, *, photos: bool, head_alone: bool) -> int:
    """Side of images for pretrained weights that expect `expected_px`."""
    if not photos:
        return min(expected_px, SMALL_IMAGE_SIDE_PX)
    return expected_px if head_alone else min(expected_px, WHOLE_NETWORK_SIDE_PX)
