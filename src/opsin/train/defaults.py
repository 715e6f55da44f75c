"""What a run does when nothing else is said: settings for each data set, and recipes by name or file.

A recipe is a TOML file of settings whose comment gives the command, the machine, the minutes and the expected score.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from opsin.data.samples import Dataset
from opsin.errors import ConfigError, nearest

PHOTO_SIDE_PX = 128

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

BY_NAME: dict[str, dict[str, Any]] = {
    "digits": SMALL | {"filters": [32, 64], "epochs": 30, "batch_size": 64, "shift": 1, "label_smoothing": 0.1},
    "mnist": SMALL | {"epochs": 8, "shift": 2, "rotate": 10.0, "scale": 0.1, "label_smoothing": 0.1},
    "fashion-mnist": SMALL | {"epochs": 10, "shift": 2, "flip": 0.5},
    "cifar10": SMALL | {"epochs": 10, "shift": 2, "flip": 0.5, "val_fraction": 0.05},
    "cifar100": SMALL | {"epochs": 16, "shift": 2, "flip": 0.5, "val_fraction": 0.05},
}
TINY_IMAGES = SMALL | {"epochs": 20, "shift": 2, "batch_size": 128}
PHOTOS = SMALL | {"epochs": 40, "batch_size": 64, "flip": 0.5, "crop_area": 0.35, "input_size": PHOTO_SIDE_PX}


def defaults_for(dataset: Dataset) -> dict[str, Any]:
    """Settings for `dataset`, as a layer for `opsin.config.resolve`.

    A set of many sizes is taken for photos; one of a single size is used at that size.
    """
    if dataset.name in BY_NAME:
        return BY_NAME[dataset.name]
    if dataset.size is None or max(dataset.size) > PHOTO_SIDE_PX:
        return PHOTOS
    return TINY_IMAGES


def read_recipe(name: str) -> dict[str, Any]:
    """Settings of a recipe: a TOML file by its path, or one of ours by its name.

    Raises:
        ConfigError: there is no such recipe, or the file is not TOML.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ConfigError("no such recipe file", where=path)
        text = path.read_text(encoding="utf-8")
    else:
        text = _shipped(name)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("a recipe that is not TOML", where=name, got=str(error)) from error


def recipe_names() -> list[str]:
    """Names of the recipes that come with Opsin."""
    return sorted(
        f.name.removesuffix(".toml") for f in resources.files("opsin.recipes").iterdir() if f.name.endswith(".toml")
    )


def _shipped(name: str) -> str:
    names = recipe_names()
    if name not in names:
        close = nearest(name, names)
        do = f"did you mean `{close}`?" if close else f"recipes: {', '.join(names) or 'none'}"
        raise ConfigError("no such recipe", got=name, do=do)
    return (resources.files("opsin.recipes") / f"{name}.toml").read_text(encoding="utf-8")
