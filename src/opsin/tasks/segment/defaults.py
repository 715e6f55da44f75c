"""Default settings of segmentation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from opsin.tasks.common_defaults import FINETUNED, Defaults, Start
from opsin.types import Layer

if TYPE_CHECKING:
    from opsin.data.samples import Dataset

AREA_PX = 128 * 160
"""Number of pixels of resized photos: enough for outlines, feasible on two cores."""
SIDE_STEP_PX = 16
NUM_PROBED = 24
"""Number of images whose shapes are read, spread over the training split."""
LARGEST_OWN_PX = 320
"""Longest side at which images of one common size keep it."""

UNET: Layer = {
    "model": "unet",
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 0.05,
    "schedule": "one-cycle",
    "warmup": 0.2,
    "batch_size": 16,
    "mask_loss": "cross-entropy-dice",
    "channels_last": True,
}
"""The U-Net and its training."""
IMAGES_SEEN = 16_000
"""Images processed in a training, over all epochs: about ten minutes on two cores."""
EPOCHS_RANGE = (10, 100)
AUGMENTATION: Layer = {
    "flip": 0.5,
    "crop_area": 0.5,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
}
"""Augmentation that preserves the class of each pixel."""
RARE_CLASSES: Layer = {"class_weights": True, "class_weights_power": 0.5}
"""For sets whose classes differ in size a hundredfold. On held-out drives of CamVid's training split (pretrained, 8
epochs, one seed) the mean IoU rose from 0.357 to 0.390; to 0.394 with the full inverse frequency, which costs buildings
and trees more."""
BY_NAME: dict[str, Layer] = {
    "digit_masks": {"epochs": 12, "filters": [16, 32, 64], "flip": 0.0, "crop_area": 1.0},
    "camvid": {**RARE_CLASSES, "epochs": 40, "batch_size": 8, "filters": [16, 32, 64, 96, 128]},
}
PRETRAINED: Layer = {
    "batch_size": 16,
    "lr": 2e-3,
    "weight_decay": 0.05,
    "backbone_lr": 0.2,
    "warmup": 0.2,
    "label_smoothing": 0.0,
    "mask_loss": "cross-entropy-dice",
}
PRETRAINED_BY_NAME: dict[str, Layer] = {"camvid": {**RARE_CLASSES, "epochs": 34, "batch_size": 8}}
DECODER_WIDTH = 32
"""Mobile networks have 16 maps at their finest level: 32 gave 3 points more mean IoU on held-out drives of CamVid's
training split (8 epochs, one seed)."""


def mask_defaults(dataset: Dataset, model: str | None) -> Layer:
    """Settings for a data set of masks.

    Images of one moderate size keep it; others are resized to one size with their median aspect ratio,
    so that few are distorted much.
    """
    height, width = input_shape(dataset)
    shape = {"input_size": height, "input_width": width, "epochs": epochs_for(len(dataset.splits["train"]))}
    settings = shape | _of_set(dataset.name if dataset.published else None)
    return settings | ({} if model in (None, UNET["model"]) else {"model": model})


def _of_set(name: str | None) -> Layer:
    """Settings that do not depend on the images, of a catalogue set or of the user's data."""
    return AUGMENTATION | UNET | BY_NAME.get(name or "", {})


def shown_defaults() -> dict[str, Layer]:
    """Settings by kind of data, for `--help`."""
    least, most = EPOCHS_RANGE
    own = {"epochs": f"{least} to {most}, by the number of images,", **_of_set(None)}
    pretrained = FINETUNED | AUGMENTATION | PRETRAINED | {"epochs": own["epochs"], "model": None}
    return {"masks": own} | {name: _of_set(name) for name in BY_NAME} | {"masks on pretrained weights": pretrained}


def mask_finetune_defaults(start: Start) -> Layer:
    """The same from pretrained weights."""
    dataset = start.dataset
    height, width = input_shape(dataset)
    settings: Layer = {"input_size": height, "input_width": width, **AUGMENTATION, **PRETRAINED}
    settings["epochs"] = epochs_for(len(dataset.splits["train"]))
    if start.pretrained:  # an Opsin run has its decoder
        settings["decoder_width"] = DECODER_WIDTH
    return settings | (PRETRAINED_BY_NAME.get(dataset.name, {}) if dataset.published else {})


DEFAULTS = Defaults(from_scratch=mask_defaults, from_weights=mask_finetune_defaults)


def epochs_for(num_images: int) -> int:
    """Passes over `num_images` training images that show the network about `IMAGES_SEEN`, within `EPOCHS_RANGE`.

    >>> epochs_for(803)
    20
    """
    least, most = EPOCHS_RANGE
    return min(max(round(IMAGES_SEEN / num_images), least), most)


def input_shape(dataset: Dataset) -> tuple[int, int]:
    """Height and width that a network sees images of this set at."""
    import numpy as np  # here, because `opsin --help`, which shows the settings above, should not wait for it

    source = dataset.splits["train"]
    chosen = np.linspace(0, len(source) - 1, min(NUM_PROBED, len(source))).astype(int)
    shapes = [source.read(int(i)).size for i in chosen]
    if len(set(shapes)) == 1 and max(shapes[0]) <= LARGEST_OWN_PX:
        return int(shapes[0][0]), int(shapes[0][1])
    aspect = float(np.median([height / width for height, width in shapes]))
    return _whole(math.sqrt(AREA_PX * aspect)), _whole(math.sqrt(AREA_PX / aspect))


def _whole(side: float) -> int:
    """The nearest multiple of `SIDE_STEP_PX`."""
    return max(1, round(side / SIDE_STEP_PX)) * SIDE_STEP_PX
