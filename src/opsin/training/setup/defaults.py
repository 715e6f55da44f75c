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
from opsin.tasks import get_task
from opsin.tasks.common_defaults import DIVIDED_BY_NAME

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0},
    "adamw": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.01},
    "nadam": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0},
    "rmsprop": {"lr": 1e-3, "momentum": 0.0, "weight_decay": 0.0},
    "muon": {"lr": 0.05, "momentum": 0.7, "weight_decay": 0.0},
}
"""What each optimizer is used with, where the user chose it: a rate that suits one is ruin for another."""


def data_defaults(name: str) -> dict[str, Any]:
    """The part of `defaults_for` that has to be known before a set is loaded, by its catalogue name."""
    return dict(DIVIDED_BY_NAME.get(name, {}))


def defaults_for(dataset: Dataset, *, model: str | None = None, optimizer: str | None = None) -> dict[str, Any]:
    """Settings for `dataset`, as a layer for `opsin.config.resolve`.

    A set of many sizes, or of large images, is taken for photos; anything else is used at its own size.

    Args:
        dataset: whose settings.
        model: the network that the user chose; None lets the data set choose.
        optimizer: likewise.
    """
    name = dataset.name if dataset.published else ""
    settings = data_defaults(name) | get_task(dataset.task).defaults(dataset, model)
    if optimizer in OPTIMIZERS and optimizer != settings["optimizer"]:
        settings |= OPTIMIZERS[optimizer]
    return settings


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
