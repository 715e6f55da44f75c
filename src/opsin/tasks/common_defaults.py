"""Settings that several tasks start from: our networks for small images and photos, networks that the user chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsin.data.samples import Dataset

PHOTO_SIDE_PX = 96
"""Side that photos are brought to: enough for their content, little enough for two cores."""
SMALL_IMAGE_SIDE_PX = 96
"""Side that images of a few dozen pixels are brought to: networks made for 224 px halve their maps five times."""
WHOLE_NETWORK_SIDE_PX = 160
"""Side of photos where more than the head is trained: what two cores can afford."""

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
"""Our small-image network and how it is trained."""
OTHER_NETWORKS: dict[str, Any] = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "schedule": "one-cycle"}
"""How a network is trained that the user has chosen: settings that are rarely far off."""
OURS = ("small", "tiny")
FEW_SAMPLES: dict[str, Any] = {"epochs": 30, "batch_size": 64}
PHOTOS: dict[str, Any] = {"epochs": 24, "batch_size": 64, "resolutions": [64, 96]}
HEAD: dict[str, Any] = {"epochs": 30, "batch_size": 64, "lr": 3e-3, "weight_decay": 0.02, "schedule": "cosine"}
"""A linear head on frozen features: an epoch takes under a second, and nothing but the head can overfit."""
WHOLE: dict[str, Any] = {"epochs": 6, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.05, "backbone_lr": 0.3}
"""More than the head: a pretrained layer changes less than a new one."""


def are_photos(dataset: Dataset) -> bool:
    """Whether a set has many sizes, or large images; anything else is used at its own size."""
    return dataset.size is None or max(dataset.size) > PHOTO_SIDE_PX


def network_settings(ours: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Settings of the network that a data set gets from us, or of the one that the user chose."""
    if model in (None, ours["model"]):
        return dict(ours)
    return SMALL | FEW_SAMPLES | {"model": model} if model in OURS else dict(OTHER_NETWORKS)


def side_of_weights(expected_px: int, *, photos: bool, head_alone: bool) -> int:
    """Side of images for pretrained weights that expect `expected_px`."""
    if not photos:
        return min(expected_px, SMALL_IMAGE_SIDE_PX)
    return expected_px if head_alone else min(expected_px, WHOLE_NETWORK_SIDE_PX)
