"""From what the user gave to all settings of a run: which data, which weights, what is chosen for them.

load -> start from pretrained weights? -> plan -> defaults of task and data -> what the user gave
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from opsin import config as settings_of
from opsin.config import DataConfig, RunConfig, plain
from opsin.data.load import load, source_name
from opsin.data.samples import Dataset
from opsin.errors import ConfigError, DataError
from opsin.models.registry import get_entry
from opsin.progress import QUIET, Reporter
from opsin.tasks import card_of, get_task, task_names
from opsin.tasks.common_defaults import SMALLEST_PHOTO_PX
from opsin.training.engine.budget import Budget
from opsin.training.setup.defaults import data_defaults, defaults_for, read_recipe
from opsin.training.setup.finetune_defaults import finetune_defaults
from opsin.training.setup.origin import Origin, find_origin
from opsin.training.setup.provenance import Layer, merged, settings_origins
from opsin.training.setup.transfer import (
    NETWORK,
    SHORT_S,
    WEIGHTS,
    Plan,
    Work,
    choose,
    describe,
    measure_costs,
    photo_side,
    record,
    start_from_package,
)
from opsin.types import SizePolicy

APPLIED_AFTER_LOADING = (
    "input_size",
    "input_width",
    "fit",
    "pack_scale",
    "bits",
    "normalize",
    "allow_leaks",
    "skip_unreadable",
)
"""Settings of the data that a loaded data set leaves open."""
CHOSEN, LOADED, GIVEN = "chosen for the data", "the data as loaded", "you"
"""Where settings come from, in words."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A loaded data set and all settings of a run on it; the weights that it starts from, and how they were planned.

    `origins`: where each setting comes from that is not at its plain default.
    """

    dataset: Dataset
    config: RunConfig
    origins: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None
    plan: Mapping[str, Any] | None = None


def resolve_settings(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    root: Path | str | None,
    recipe: str | None,
    settings: Mapping[str, Any],
    report: Reporter = QUIET,
    budget: Budget | None = None,
) -> Resolved:
    """Load the data and settle everything that is open: what was chosen is told.

    Raises:
        ConfigError: an unknown network or setting, before the data is read.
    """
    layers: tuple[Layer, ...] = ((f"recipe {recipe}", read_recipe(recipe) if recipe else {}), (GIVEN, settings))
    given = merged(layers)
    if given.get("weights") == WEIGHTS and given.get("model") is None:
        layers = (("its weights", {"model": NETWORK}), *layers)
    check_model(_config_of(layers).model.model)
    if isinstance(data, Dataset):
        dataset, loaded_with = data, _settings_of_loading(data, given)
    else:
        first = _config_of((("", data_defaults(source_name(data))), *layers))
        dataset, loaded_with = load(data, root=root, config=first.data, task=first.task, report=report), {}
    _refuse_other_tasks(settings, dataset.task)
    place = {"source": dataset.source, "root": dataset.given_root, "task": dataset.task}
    origin: Origin | None = None
    about: Mapping[str, Any] | None = None
    measured: dict[str, Any] = {}
    if given.get("weights") is None:
        start, why = start_from_package(dataset, merged(layers))
        if start:
            report.message(why)
            layers = ((CHOSEN, start), *layers)
    given = merged(layers)
    if given.get("weights") is None:
        chosen = defaults_for(dataset, model=given.get("model"), optimizer=given.get("optimizer"))
    else:
        origin = find_origin(_config_of(layers))
        assert origin is not None  # weights are given
        plan, about, measured = _planned(dataset, origin, given, budget, report)
        chosen = finetune_defaults(dataset, origin, given, plan)
    if given.get("bits") is None and (bits := dataset.bits) != DataConfig.bits:
        chosen = {**chosen, "bits": bits}
    layers = ((CHOSEN, chosen), ("measured here", measured), (LOADED, loaded_with), *layers, (GIVEN, place))
    config = _config_of(layers)
    return Resolved(dataset=dataset, config=config, origins=settings_origins(layers), origin=origin, plan=about)


def _config_of(layers: tuple[Layer, ...]) -> RunConfig:
    return settings_of.resolve(*(layer for _, layer in layers))


def _planned(
    dataset: Dataset, origin: Origin, given: Mapping[str, Any], budget: Budget | None, report: Reporter
) -> tuple[Plan | None, Mapping[str, Any] | None, dict[str, Any]]:
    """A plan for photos of classes whose user names no way of fine-tuning; its record; settings that it measured."""
    own_way = given.get("finetune") is not None or given.get("head") is not None or given.get("resolutions")
    if not get_task(dataset.task).one_class or own_way or origin.pretrained is None:
        return None, None, {}
    if (photo_px := photo_side(dataset)) < SMALLEST_PHOTO_PX:
        return None, None, {}
    if given.get("threads"):
        torch.set_num_threads(int(given["threads"]))
    costs = measure_costs(origin, dataset, str(given.get("device") or "auto"))
    splits = {split: len(source) for split, source in dataset.splits.items()}
    work = Work(train=splits["train"], val=splits.get("val", 0), all=sum(splits.values()))
    seconds = None if budget is None else budget.left()
    plan = choose(costs, work, seconds, photo_px=photo_px, side_px=given.get("input_size"))
    message = describe(costs, plan, work)
    report.message(message)
    settings: dict[str, Any] = {"feature_precision": costs.precision}
    if budget is not None and budget.seconds < SHORT_S:
        settings["preflight"] = False
        report.message("the checks before the first step are left out of so short a budget (--preflight asks for them)")
    return plan, record(costs, plan, seconds) | {"message": message}, settings


def check_model(name: str) -> None:
    """Refuse a network that does not exist.

    Raises:
        ConfigError: naming the nearest that does.
    """
    get_entry(name)


def _refuse_other_tasks(settings: Mapping[str, Any], task: str) -> None:
    """Refuse settings that would do nothing. At their defaults they pass, as in the settings of an earlier run.

    Raises:
        ConfigError: a setting of another task was given.
    """
    defaults = settings_of.flat(RunConfig())
    for owner in task_names():
        given = [
            name for name in card_of(owner).settings if settings.get(name, defaults[name]) not in (None, defaults[name])
        ]
        if given and owner != task:
            raise ConfigError(f"setting `{given[0]}` is for another task", got=task, expected=owner, do="leave it out")


def _settings_of_loading(dataset: Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a loaded data set was loaded with; others of their kind come too late.

    Raises:
        ConfigError: a setting that decides how data is loaded was given, and differs.
    """
    kept = settings_of.to_dict(dataset.config or DataConfig())
    fixed = {key: value for key, value in kept.items() if key not in APPLIED_AFTER_LOADING}
    for key in fixed.keys() & given.keys():
        if plain(given[key]) != fixed[key]:
            do = f"give {key} to `opsin.load`, or give `opsin.train` the name or path of the data"
            raise ConfigError("this data set is loaded already", where=key, got=given[key], expected=fixed[key], do=do)
    return fixed


def size_policy(dataset: Dataset, config: RunConfig) -> SizePolicy | None:
    """The size that images are packed at; None keeps the one size that they all have, at 8 bits."""
    side, data = config.data.input_size, config.data
    if side is not None:
        return SizePolicy(height=side, width=data.input_width or side, fit=data.fit, bits=data.bits)
    if dataset.size is None:
        raise DataError("images of several sizes need an input size", where=dataset.root, do="give --input-size 128")
    if data.bits == DataConfig.bits:
        return None
    return SizePolicy(height=dataset.size[0], width=dataset.size[1], fit=data.fit, bits=data.bits)
