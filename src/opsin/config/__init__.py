"""Every setting of a run: frozen, checked, and stored as plain JSON.

`RunConfig` holds five groups: `data`, `model`, `augment`, `train`, `finetune`. Settings come in layers (`resolve`): the
fields' own defaults, then the defaults of the data set, then a recipe, then what the user gave. Field names are unique
over the groups, so a layer is one flat mapping and a command-line option is one field.
The resolved config is stored as config.json; feeding it back repeats the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opsin.config.augment import AugmentConfig, PolicyName
from opsin.config.checks import field_names, former_names, from_dict, require, to_dict, with_present_names
from opsin.config.data import DataConfig, MaskClassesName, NormalizeName
from opsin.config.finetune import FinetuneConfig
from opsin.config.model import BlockName, ModelConfig, StemName, UpsampleName
from opsin.config.train import BoxLossName, MaskLossName, OptimizerName, PrecisionName, ScheduleName, TrainConfig
from opsin.errors import ConfigError, nearest

__all__ = [
    "GROUPS",
    "AugmentConfig",
    "BlockName",
    "BoxLossName",
    "DataConfig",
    "FinetuneConfig",
    "MaskClassesName",
    "MaskLossName",
    "ModelConfig",
    "NormalizeName",
    "OptimizerName",
    "PolicyName",
    "PrecisionName",
    "RunConfig",
    "ScheduleName",
    "StemName",
    "TrainConfig",
    "UpsampleName",
    "field_names",
    "flat",
    "former_names",
    "from_dict",
    "from_stored",
    "require",
    "resolve",
    "setting_names",
    "to_dict",
]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of one run."""

    source: str = ""
    """Catalogue name or path of the data, as the user gave it."""
    root: str | None = None
    """Folder of the catalogue's data sets."""
    task: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)


OF_THE_INPUT_SIZE: dict[str, Any] = {"input_width": None, "resolutions": None}
"""Settings chosen for an input size; dropped when another size is given."""


def resolve(*layers: Mapping[str, Any]) -> RunConfig:
    """One config from flat layers of settings; later layers override earlier ones.

    A layer with an input size but no input width means a square; without resolutions it means that size only, whatever
    an earlier layer had.

    >>> resolve({"epochs": 5}, {"epochs": 7, "flip": 0.5}).train.epochs
    7

    Raises:
        ConfigError: a key is unknown (the nearest valid one is named), a type is wrong or a value out of range.
    """
    given: dict[str, Any] = {}
    for layer in layers:
        given |= (OF_THE_INPUT_SIZE if layer.get("input_size") is not None else {}) | dict(layer)
    values: dict[str, Any] = {name: {} for name in GROUPS}
    for key, value in given.items():
        group = next((name for name, kind in GROUPS.items() if key in field_names(kind)), None)
        if group is not None:
            values[group][key] = value
        elif key in ("source", "root", "task"):
            values[key] = value
        else:
            close = nearest(key, setting_names())
            do = f"did you mean `{close}`?" if close else "`opsin train --help` lists the settings"
            raise ConfigError(f"unknown setting `{key}`", got=key, do=do)
    return from_dict(RunConfig, values, where="settings")


def from_stored(values: Mapping[str, Any], *, where: str) -> RunConfig:
    """The config of a run as its config.json has it. Choices that were renamed since are translated.

    Raises:
        ConfigError: as `from_dict`.
    """
    return from_dict(RunConfig, with_present_names(RunConfig, values), where=where)


def flat(config: RunConfig) -> dict[str, Any]:
    """The settings of all groups as one flat mapping: the inverse of `resolve`."""
    values = {"source": config.source, "root": config.root, "task": config.task}
    return values | {key: value for name in GROUPS for key, value in to_dict(getattr(config, name)).items()}


def setting_names() -> list[str]:
    """Names of all settings of a run, over all groups."""
    return [name for kind in GROUPS.values() for name in field_names(kind)]


GROUPS: dict[str, type[Any]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "augment": AugmentConfig,
    "train": TrainConfig,
    "finetune": FinetuneConfig,
}
