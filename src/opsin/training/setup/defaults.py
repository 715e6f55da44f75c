"""Default settings for each data set, and recipes by name or file.

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
from opsin.types import Layer

OPTIMIZERS: dict[str, Layer] = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0},
    "adamw": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.01},
    "nadam": {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0},
    "rmsprop": {"lr": 1e-3, "momentum": 0.0, "weight_decay": 0.0},
    "muon": {"lr": 0.05, "momentum": 0.7, "weight_decay": 0.0},
}
"""Settings for each optimizer chosen by the user: learning rates differ widely between optimizers."""


def data_defaults(name: str) -> Layer:
    """The part of `defaults_for` that has to be known before a set is loaded, by its catalogue name."""
    return dict(DIVIDED_BY_NAME.get(name, {}))


def defaults_for(dataset: Dataset, *, model: str | None = None, optimizer: str | None = None) -> dict[str, Any]:
    """Settings for `dataset`, as a layer for `opsin.config.resolve`.

    Data with various or large image sizes is treated as photos; other data is used at its own size.

    Args:
        dataset: the data set.
        model: the network chosen by the user; None means the data set's default.
        optimizer: likewise.
    """
    name = dataset.name if dataset.published else ""
    settings = data_defaults(name) | get_task(dataset.task).defaults(dataset, model)
    if optimizer in OPTIMIZERS and optimizer != settings["optimizer"]:
        settings |= OPTIMIZERS[optimizer]
    return settings


def read_recipe(name: str) -> Layer:
    """Settings of a recipe: a TOML file, the config.json of a run, or a built-in recipe by name.

    Raises:
        ConfigError: there is no such recipe, or the file cannot be read as one.
    """
    path = Path(name)
    if path.suffix in (".toml", ".json") and not path.is_file():
        raise ConfigError(
            "no such recipe file", where=path, do="give an existing file, or the name of a built-in recipe"
        )
    if path.suffix == ".json":
        stored = settings_of.flat(settings_of.from_stored(read_json(path), where=str(path)))
        return {key: value for key, value in stored.items() if key in settings_of.setting_names()}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8") if path.suffix == ".toml" else _shipped(name))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the recipe is not valid TOML", where=name, got=str(error), do="correct it; `opsin tune` writes such files"
        ) from error
    except RecursionError as error:
        expected = "settings: names with numbers, strings or lists of them"
        raise ConfigError("the recipe is nested too deeply", where=name, expected=expected) from error


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
