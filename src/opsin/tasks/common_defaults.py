"""Settings that several tasks start from: our networks for small images and photos, networks that the user chose.

No torch, as in the tasks' `defaults.py`: `opsin train --help` shows what they say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from opsin.types import Layer

if TYPE_CHECKING:
    from opsin.data.samples import Dataset
    from opsin.types import SizePolicy

PHOTO_SIDE_PX = 96
"""Side of photos in pixels: enough for their content, feasible on two cores."""
SMALLEST_PHOTO_PX = 96
"""Least shorter side in pixels of colour photos, which pretrained weights help."""
SMALL_IMAGE_SIDE_PX = 96
"""Side of small images in pixels: networks made for 224 px halve their maps five times."""
WHOLE_NETWORK_SIDE_PX = 160
"""Side of photos where more than the head is trained, feasible on two cores."""

SMALL: Layer = {
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
OTHER_NETWORKS: Layer = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "schedule": "one-cycle"}
"""Training of a network chosen by the user: robust settings."""
OURS = ("small", "tiny")
FEW_SAMPLES: Layer = {"epochs": 30, "batch_size": 64}
PHOTOS: Layer = {"epochs": 24, "batch_size": 64, "resolutions": [64, 96]}
HEAD: Layer = {"epochs": 30, "batch_size": 64, "lr": 3e-3, "weight_decay": 0.02, "schedule": "cosine"}
"""A linear head on frozen features: an epoch takes under a second, and nothing but the head can overfit."""
WHOLE: Layer = {"epochs": 6, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.05, "backbone_lr": 0.3}
"""More than the head: a pretrained layer changes less than a new one."""
FINETUNED: Layer = {
    "normalize": "weights",
    "optimizer": "adamw",
    "schedule": "one-cycle",
    "label_smoothing": 0.1,
    "channels_last": True,
}
"""What every run from pretrained weights does: small rates, inputs as expected."""
DIVIDED_BY_NAME: dict[str, Layer] = {
    "mnist": {"val_fraction": 5 / 60},
    "cifar10": {"val_fraction": 0.05},
    "cifar100": {"val_fraction": 0.05},
}
"""How a catalogue set is divided: of tens of thousands of samples, a small share measures well enough."""


class Described(Protocol):
    """What of a data set its defaults depend on: which it is, and how large its images are (None: of many sizes)."""

    @property
    def name(self) -> str:
        """In the catalogue, or the folder's."""

    @property
    def published(self) -> bool:
        """Whether it is of the catalogue."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that all images have."""


@dataclass(frozen=True, kw_only=True)
class DataKind:
    """A kind of data that no data set is needed for: a set of the catalogue, or images of the user's."""

    name: str
    published: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """Pretrained weights that a run starts from.

    `dataset`: the training data. `expected`: the input contract of the weights. `pretrained`: they are from a
    published network, not from an Opsin run, which includes its decoder. `way`: the setting `finetune`.
    `given`: settings given by the user.
    """

    dataset: Dataset
    expected: SizePolicy
    pretrained: bool
    way: str
    given: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """The settings that a task's runs start from.

    `from_scratch`: of a data set, and of the network chosen by the user or None. `from_weights`: of a run that starts
    from pretrained weights.
    """

    from_scratch: Callable[[Dataset, str | None], Layer]
    from_weights: Callable[[Start], Layer]


SMALL_IMAGES = DataKind(name="small images", size=(32, 32))
PHOTOS_FROM_SCRATCH = DataKind(name="photos from scratch")


def shown_by_kind(defaults: Callable[[Described, str | None], Layer], *published: str) -> dict[str, Layer]:
    """The settings of a task by kind of data, as `--help` shows them.

    Args:
        defaults: the task's, of a data set and no network of the user's choice.
        published: sets of the catalogue that have settings of their own.
    """
    named = [DataKind(name=name, published=True, size=SMALL_IMAGES.size) for name in published]
    found = {
        kind.name: DIVIDED_BY_NAME.get(kind.name, {}) | defaults(kind, None)
        for kind in (SMALL_IMAGES, PHOTOS_FROM_SCRATCH, *named)
    }
    pretrained = {**FINETUNED, "model": None}  # the network is that of the weights
    whole = pretrained | WHOLE | {"input_size": WHOLE_NETWORK_SIDE_PX}
    return found | {"pretrained weights": whole, "a head on pretrained weights": pretrained | HEAD}


def are_photos(dataset: Described) -> bool:
    """Whether a set has many sizes, or large images; anything else is used at its own size."""
    return dataset.size is None or max(dataset.size) > PHOTO_SIDE_PX


def network_settings(ours: Mapping[str, object], model: str | None) -> Layer:
    """Settings of a data set's default network, or of the one chosen by the user."""
    if model in (None, ours["model"]):
        return dict(ours)
    return SMALL | FEW_SAMPLES | {"model": model} if model in OURS else dict(OTHER_NETWORKS)


def length_settings(dataset: Described) -> Layer:
    """Epochs and batch size for the user's own images: photos, or small images of which there are few."""
    return PHOTOS if are_photos(dataset) else FEW_SAMPLES


def side_of_weights(expected_px: int, *, photos: bool, head_alone: bool) -> int:
    """Side of images for pretrained weights that expect `expected_px`."""
    if not photos:
        return min(expected_px, SMALL_IMAGE_SIDE_PX)
    return expected_px if head_alone else min(expected_px, WHOLE_NETWORK_SIDE_PX)


def weights_settings(start: Start) -> Layer:
    """Side of images, and training of the head alone or of more, for a run from pretrained weights."""
    head_alone = start.way == "head"
    side = side_of_weights(start.expected.height, photos=are_photos(start.dataset), head_alone=head_alone)
    return {"input_size": side, **(HEAD if head_alone else WHOLE)}


def features_once(start: Start) -> bool:
    """Whether frozen features are computed once, without augmentation."""
    return start.way == "head" and int(start.given.get("feature_views") or 1) <= 1
