"""Settings of fine-tuning that would have no effect are refused, instead of being ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsin.config import FinetuneConfig
from opsin.errors import ConfigError
from opsin.tasks import get_task


def check_settings(config: FinetuneConfig, *, task: str, augmented: Mapping[str, Any], resolutions: object) -> None:
    """Refuse settings that would have no effect, instead of ignoring them.

    Args:
        config: the settings.
        task: name of the task.
        augmented: augmentation settings that are not 0.
        resolutions: input heights over the course of training, if several.

    Raises:
        ConfigError: names the setting and what it needs.
    """
    known = get_task(task)
    if config.weights is None:
        for name in ("finetune", "weights_range", "backbone_lr", "lr_decay", "train_norms", "head_start"):
            default = getattr(FinetuneConfig(), name)
            if getattr(config, name) != default:
                do = "give --weights FILE, RUN, package, timm or torchvision"
                got = getattr(config, name)
                raise ConfigError(f"setting `{name}` needs pretrained weights", got=got, do=do)
    if config.weights is not None and config.from_scratch:
        do = "give one of --weights and --from-scratch"
        raise ConfigError("`--from-scratch` and `--weights` exclude each other", got=config.weights, do=do)
    if config.head_start and (not known.one_class or config.head is not None):
        got = "hidden layers" if known.one_class else task
        raise ConfigError("a head start needs a linear classification head", got=got, do="leave --head-start out")
    if config.head is not None and known.pixelwise:
        raise ConfigError("`--head` applies to classification only", got=task, do="leave --head out")
    cached = config.finetune == "head" and known.one_class
    if not cached:
        if config.feature_views > 1:
            do = "add --finetune head, or leave it out: elsewhere every epoch has its own views"
            raise ConfigError("`feature_views` needs frozen features of a classifier", got=config.feature_views, do=do)
        return
    if resolutions:
        do = "set --input-size instead"
        raise ConfigError("frozen features are computed at one size", where="resolutions", got=resolutions, do=do)
    mixing = [name for name in ("mixup", "cutmix") if name in augmented]
    if mixing:
        do = "leave them out, or train more than the head"
        raise ConfigError("frozen features of images cannot be mixed", got=", ".join(mixing), do=do)
    if augmented and config.feature_views == 1:
        raise ConfigError(
            "frozen features are computed once, so augmentation would have no effect",
            got=", ".join(f"{name} {value}" for name, value in augmented.items()),
            do="--feature-views 8 computes them for eight augmented views; or leave augmentation out",
        )
