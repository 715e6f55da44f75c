"""What a run does when nothing else is said: settings for each data set, and recipes by name or file.

A recipe is a TOML file of settings whose comment gives the command, the machine, the minutes and the expected score.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from opsin import config as settings_of
from opsin.data.samples import Dataset
from opsin.errors import ConfigError, nearest
from opsin.io.files import read_json
from opsin.training.setup.mask_defaults import mask_defaults

PHOTO_SIDE_PX = 96
"""Side that photos are brought to: enough for their content, little enough for two cores."""

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
"""How a network is trained that the user has chosen: settings that are seldom far off."""
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0},
    "adamw": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.01},
    "nadam": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0},
    "rmsprop": {"lr": 1e-3, "momentum": 0.0, "weight_decay": 0.0},
    "muon": {"lr": 0.05, "momentum": 0.7, "weight_decay": 0.0},
}
"""What each optimizer is used with, where the user chose it: a rate that suits one is ruin for another."""

AUGMENTATION: dict[str, dict[str, Any]] = {
    "digits": {"shift": 1},
    "mnist": {"shift": 2, "rotate": 10.0, "scale": 0.1, "shear": 5.0},
    "fashion-mnist": {"shift": 2, "flip": 0.5},
    "cifar10": {"shift": 2, "flip": 0.5},
    "cifar100": {"shift": 2, "flip": 0.5},
}
"""Changes that leave the label of an image of this set as it is."""
PHOTO_AUGMENTATION = {"flip": 0.5, "crop_area": 0.35}

BY_NAME: dict[str, dict[str, Any]] = {
    "digits": {"filters": [32, 64], "epochs": 30, "batch_size": 64, "label_smoothing": 0.1},
    "mnist": {"model": "tiny", "epochs": 7, "batch_size": 250, "label_smoothing": 0.05, "lr": 0.06, "warmup": 0.03},
    "fashion-mnist": {"epochs": 10},
    "cifar10": {"filters": [48, 128, 256], "epochs": 26, "resolutions": [20, 24, 32]},
    "cifar100": {"filters": [48, 128, 256], "epochs": 24, "resolutions": [20, 24, 32]},
}
"""Which network of ours a set gets, how long it is trained, and what else it needs."""
OURS = ("small", "tiny")
FEW_SAMPLES = {"epochs": 30, "batch_size": 64}
SCENES: dict[str, Any] = {
    "model": "tiny",
    "epochs": 2,
    "batch_size": 250,
    "label_smoothing": 0.05,
    "lr": 0.06,
    "warmup": 0.03,
    "box_weight": 2.0,
}
"""Digit scenes, whose places are random as they are: no augmentation."""
PHOTOS = {"epochs": 24, "batch_size": 64, "resolutions": [64, 96]}
DATA_BY_NAME: dict[str, dict[str, Any]] = {
    "mnist": {"val_fraction": 5 / 60},
    "cifar10": {"val_fraction": 0.05},
    "cifar100": {"val_fraction": 0.05},
}
"""How a catalogue set is divided: of tens of thousands of samples, a small share measures well enough."""


def data_defaults(name: str) -> dict[str, Any]:
    """The part of `defaults_for` that has to be known before a set is loaded, by its catalogue name."""
    return dict(DATA_BY_NAME.get(name, {}))


def defaults_for(dataset: Dataset, *, model: str | None = None, optimizer: str | None = None) -> dict[str, Any]:
    """Settings for `dataset`, as a layer for `opsin.config.resolve`.

    A set of many sizes, or of large images, is taken for photos; anything else is used at its own size.

    Args:
        dataset: whose settings.
        model: the network that the user chose; None lets the data set choose.
        optimizer: likewise.
    """
    settings = _task_defaults(dataset, model)
    if optimizer in OPTIMIZERS and optimizer != settings["optimizer"]:
        settings |= OPTIMIZERS[optimizer]
    return settings


def _task_defaults(dataset: Dataset, model: str | None) -> dict[str, Any]:
    if dataset.task == "segment":
        return mask_defaults(dataset) | ({} if model in (None, "unet") else {"model": model})
    name = dataset.name if dataset.published else ""
    if dataset.task == "localize":
        return box_defaults(dataset, model=model)
    settings = data_defaults(name)
    photos = dataset.size is None or max(dataset.size) > PHOTO_SIDE_PX
    settings |= AUGMENTATION.get(name, PHOTO_AUGMENTATION if photos else {"shift": 2})
    if photos:
        settings["input_size"] = PHOTO_SIDE_PX
    ours = SMALL | BY_NAME.get(name, PHOTOS if photos else FEW_SAMPLES)
    if model in (None, ours["model"]):
        return settings | ours
    return settings | (SMALL | FEW_SAMPLES | {"model": model} if model in OURS else OTHER_NETWORKS)


def box_defaults(dataset: Dataset, *, model: str | None = None) -> dict[str, Any]:
    """Settings for one object in each image. Nothing here cuts a part of the object off, as random crops would."""
    photos = dataset.size is None or max(dataset.size) > PHOTO_SIDE_PX
    settings: dict[str, Any] = {"flip": 0.5, "input_size": PHOTO_SIDE_PX} if photos else {}
    scenes = dataset.published and dataset.name == "digit_scenes"
    ours = SMALL | (SCENES if scenes else PHOTOS if photos else FEW_SAMPLES)
    if model in (None, ours["model"]):
        return settings | ours
    return settings | (SMALL | FEW_SAMPLES | {"model": model} if model in OURS else OTHER_NETWORKS)


def read_recipe(name: str) -> dict[str, Any]:
    """Settings of a recipe: a TOML file, the config.json of a run, or one of our recipes by its name.

    Raises:
        ConfigError: there is no such recipe, or the file cannot be read as one.
    """
    path = Path(name)
    if path.suffix in (".toml", ".json") and not path.is_file():
        raise ConfigError("no such recipe file", where=path)
    if path.suffix == ".json":
        stored = settings_of.flat(settings_of.from_stored(read_json(path), where=str(path)))
        return {key: value for key, value in stored.items() if key in settings_of.setting_names()}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8") if path.suffix == ".toml" else _shipped(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("a recipe that is not TOML", where=name, got=str(error)) from error
    except RecursionError as error:
        expected = "settings: names with numbers, texts or lists of them"
        raise ConfigError("a recipe that is nested too deep", where=name, expected=expected) from error


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
