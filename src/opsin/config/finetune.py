"""Settings of transfer learning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from opsin.config.checks import require

WAYS = "all, head, top:N, staged or gradual"


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Origin of the pretrained weights, and which of them are trained.

    Parameters
    ----------
    weights
        Pretrained weights: a file, a run of Opsin (name or folder), `package` (an installed package of weights), or
        `timm` or `torchvision` (downloads).
    from_scratch
        Start from random weights even for photos, which start from pretrained ones by default.
    weights_range
        Input range the weights expect, where their file does not say: unit, signed, raw, imagenet, caffe or lite.
    finetune
        What is trained: all, head, top:N (the last N sections and the head), staged (the head first, then all) or
        gradual (one more section at a time).
    head_start
        Fit the linear head on features computed once, before the first epoch; later epochs are kept only if better
        on val.
    head
        Nodes of hidden layers between the features and the logits, e.g. `256,128`; otherwise the head is linear.
    train_norms
        Train batch norm of pretrained layers on the new data; otherwise it stays in inference mode.
    backbone_lr
        Learning rate of the backbone as a factor of the head's.
    lr_decay
        Learning rate of each section of the backbone as a factor of the one above it; 1 is off.
    head_epochs
        Epochs in which `staged` and `gradual` train only the head.
    later_lr
        Factor of the learning rate after these epochs.
    unfreeze_every
        Epochs from one section to the next in `gradual`.
    feature_views
        Augmented views of each image for the features of `--finetune head`; 1 is the unmodified image.
    feature_precision
        Precision in which features are computed.
    """

    weights: str | None = None
    from_scratch: bool = False
    weights_range: str | None = None
    finetune: str = "all"
    head_start: bool = False
    head: tuple[int, ...] | None = None
    train_norms: bool = False
    backbone_lr: float = 1.0
    lr_decay: float = 1.0
    head_epochs: int = 3
    later_lr: float = 0.1
    unfreeze_every: int = 1
    feature_views: int = 1
    feature_precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        known = re.fullmatch(r"all|head|staged|gradual|top:[1-9][0-9]{0,2}", self.finetune)
        require(known is not None, "finetune", self.finetune, WAYS)
        require(all(n > 0 for n in self.head or ()), "head", self.head, "positive numbers")
        for name in ("backbone_lr", "lr_decay", "later_lr"):
            require(0 < getattr(self, name) <= 1, name, getattr(self, name), "0 < x <= 1")
        for name in ("head_epochs", "unfreeze_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        require(1 <= self.feature_views <= 64, "feature_views", self.feature_views, "1 to 64")

    @property
    def top(self) -> int | None:
        """N of `top:N`; None otherwise."""
        return int(self.finetune.removeprefix("top:")) if self.finetune.startswith("top:") else None
