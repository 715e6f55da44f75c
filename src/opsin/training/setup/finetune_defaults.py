"""What a run with pretrained weights does when nothing else is said: small rates, few epochs, inputs as expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsin.data.samples import Dataset
from opsin.training.setup.defaults import PHOTO_SIDE_PX, data_defaults
from opsin.training.setup.mask_defaults import AUGMENTATION as MASK_AUGMENTATION
from opsin.training.setup.mask_defaults import RARE_CLASSES, epochs_for, input_shape
from opsin.training.setup.origin import Origin
from opsin.training.setup.transfer import Plan

SMALL_IMAGE_SIDE_PX = 96
"""Side that images of a few dozen pixels are brought to: networks made for 224 px halve their maps five times."""
WHOLE_NETWORK_SIDE_PX = 160
"""Side of photos where more than the head is trained: what two cores can afford."""

COMMON: dict[str, Any] = {
    "normalize": "weights",
    "optimizer": "adamw",
    "schedule": "one-cycle",
    "label_smoothing": 0.1,
    "channels_last": True,
}
HEAD: dict[str, Any] = {"epochs": 30, "batch_size": 64, "lr": 3e-3, "weight_decay": 0.02, "schedule": "cosine"}
"""A linear head on frozen features: an epoch takes under a second, and nothing but the head can overfit."""
WHOLE: dict[str, Any] = {"epochs": 6, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.05, "backbone_lr": 0.3}
"""More than the head: a pretrained layer changes less than a new one."""
AFTER_HEAD_START: dict[str, Any] = {"precision": "float32", "lr": 5e-4, "backbone_lr": 0.5}
"""A head that is fitted already needs no high rate. What the network costs was measured in float32."""
WHOLE_PHOTOS: dict[str, Any] = {"flip": 0.5, "crop_area": 0.5}
SMALL_IMAGES: dict[str, Any] = {"flip": 0.5, "shift": 8}
MASKS: dict[str, Any] = {
    "batch_size": 16,
    "lr": 2e-3,
    "weight_decay": 0.05,
    "backbone_lr": 0.2,
    "warmup": 0.2,
    "label_smoothing": 0.0,
    "mask_loss": "cross-entropy-dice",
}
DECODER_WIDTH = 32
"""Mobile networks have 16 maps at their finest level: 32 gave 3 points more mean IoU on drives of CamVid's training
split that were held out (8 epochs, one seed)."""
STAGED_LATER_LR = 0.3
FLIPPED = ("cifar10", "cifar100")
"""Catalogue sets of small images that are the same when they are mirrored."""
BY_NAME: dict[str, dict[str, Any]] = {"camvid": {**RARE_CLASSES, "epochs": 34, "batch_size": 8}}
"""Settings of single catalogue sets, over all others."""


def finetune_defaults(
    dataset: Dataset, origin: Origin, given: Mapping[str, Any], plan: Plan | None = None
) -> dict[str, Any]:
    """Settings for training from `origin` on `dataset`, as a layer for `opsin.config.resolve`.

    Args:
        dataset: whose settings.
        origin: the weights; their size and fit are taken where they suit.
        given: what the user gave; the way of fine-tuning decides the rest.
        plan: of photos for which the user named no way.
    """
    planned = {} if plan is None else plan.settings
    way = str(given.get("finetune") or planned.get("finetune") or "all")
    settings = {**data_defaults(dataset.name if dataset.published else ""), **COMMON, "model": origin.model}
    if dataset.task == "segment":
        height, width = input_shape(dataset)
        settings |= {"input_size": height, "input_width": width, **MASK_AUGMENTATION, **MASKS}
        settings["epochs"] = epochs_for(len(dataset.splits["train"]))
        if origin.pretrained is not None:  # a run of ours brings its decoder
            settings["decoder_width"] = DECODER_WIDTH
    else:
        settings |= _image_settings(dataset, origin, way, given)
    if way in ("staged", "gradual"):
        settings |= {"later_lr": STAGED_LATER_LR, "head_epochs": 2}
    settings |= planned | (AFTER_HEAD_START if plan is not None and plan.way != "head" else {})
    return settings | (BY_NAME.get(dataset.name, {}) if dataset.published else {})


def _image_settings(dataset: Dataset, origin: Origin, way: str, given: Mapping[str, Any]) -> dict[str, Any]:
    photos = dataset.size is None or max(dataset.size) > PHOTO_SIDE_PX
    expected = origin.preprocess.size
    cached = way == "head" and dataset.task == "classify"
    if photos:
        side = expected.height if way == "head" else min(expected.height, WHOLE_NETWORK_SIDE_PX)
    else:
        side = min(expected.height, SMALL_IMAGE_SIDE_PX)
    settings: dict[str, Any] = {"input_size": side, **(HEAD if way == "head" else WHOLE)}
    if dataset.task == "classify":
        settings["fit"] = expected.fit
    if not cached or int(given.get("feature_views") or 1) > 1:
        settings |= _augmentation(dataset, photos=photos)
    return settings


def _augmentation(dataset: Dataset, *, photos: bool) -> dict[str, Any]:
    """Changes that leave the target as it is; a crop might cut off what a box is to be put around."""
    if dataset.task == "localize":
        return {"flip": 0.5} if photos else {}
    if photos:
        return WHOLE_PHOTOS
    return SMALL_IMAGES if dataset.published and dataset.name in FLIPPED else {}
