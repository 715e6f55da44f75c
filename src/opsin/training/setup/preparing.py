"""From data and settings to everything that a trainer needs before its first step.

load -> resolve settings -> pack -> contract -> network
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from opsin import config as settings_of
from opsin.artifact import Artifact
from opsin.batches.augment import check_targets
from opsin.batches.loader import gather
from opsin.batches.preprocess import Preprocess, measure
from opsin.config import DataConfig, RunConfig
from opsin.data.load import load, source_name
from opsin.data.pack import pack, usable_cache
from opsin.data.quality.audit import check_files, check_leaks, near_in_packed
from opsin.data.samples import Dataset, Samples
from opsin.errors import ConfigError, DataError
from opsin.models.freezing import pin_norms
from opsin.models.parts.heads import HEAD
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec, get_entry, resolve_options
from opsin.progress import QUIET, Reporter
from opsin.tasks import card_of, get_task, task_names
from opsin.training.engine import machine
from opsin.training.engine.budget import Budget
from opsin.training.engine.own_parts import OwnParts
from opsin.training.engine.stages import check_stages
from opsin.training.engine.tensorboard import require_tensorboard
from opsin.training.features import augmented_settings, is_cached
from opsin.training.setup.defaults import data_defaults, defaults_for, read_recipe
from opsin.training.setup.finetune import check_settings
from opsin.training.setup.finetune_defaults import finetune_defaults
from opsin.training.setup.origin import Origin, find_origin
from opsin.training.setup.prepared import Prepared, notes_of
from opsin.training.setup.transfer import (
    NETWORK,
    SHORT_S,
    SMALLEST_PHOTO_PX,
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
from opsin.types import SizePolicy, SplitName

INIT_SAMPLES = 5000
"""Training images from which data-dependent weights are set."""
INIT_BYTES = 1 << 30
"""Memory for these images in bytes; large images are fewer."""
APPLIED_AFTER_LOADING = ("input_size", "input_width", "fit", "normalize", "allow_leaks", "skip_unreadable")
"""Data settings that a loaded data set leaves open."""


def prepare_from(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    root: Path | str | None,
    recipe: str | None,
    settings: Mapping[str, Any],
    report: Reporter,
    budget: Budget | None = None,
) -> Prepared:
    """Load the data, resolve the settings against its defaults, and prepare everything for the first step."""
    resolved = resolve_settings(data, root=root, recipe=recipe, settings=settings, report=report, budget=budget)
    prepared = prepare(resolved.dataset, resolved.config, report, resolved.origin)
    return replace(prepared, plan=resolved.plan)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A loaded data set and all settings of a run on it; the initial weights, and the plan behind them."""

    dataset: Dataset
    config: RunConfig
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
    """Load the data and resolve all open settings; choices are printed.

    Raises:
        ConfigError: an unknown network or setting, before the data is read.
    """
    layers: tuple[Mapping[str, Any], ...] = (read_recipe(recipe) if recipe else {}, settings)
    given = {**layers[0], **layers[1]}
    if given.get("weights") == WEIGHTS and given.get("model") is None:
        layers = ({"model": NETWORK}, *layers)
        given["model"] = NETWORK
    check_model(settings_of.resolve(*layers).model.model)
    if isinstance(data, Dataset):
        dataset, loaded_with = data, _settings_of_loading(data, given)
    else:
        first = settings_of.resolve(data_defaults(source_name(data)), *layers)
        dataset, loaded_with = load(data, root=root, config=first.data, task=first.task, report=report), {}
    _refuse_other_tasks(settings, dataset.task)
    place = {"source": dataset.source, "root": dataset.given_root, "task": dataset.task}
    if given.get("weights") is None:
        start, why = start_from_package(dataset, given)
        if not start:
            chosen = defaults_for(dataset, model=given.get("model"), optimizer=given.get("optimizer"))
            return Resolved(dataset=dataset, config=settings_of.resolve(chosen, loaded_with, *layers, place))
        report.message(why)
        layers, given = (start, *layers), {**start, **given}
    origin = find_origin(settings_of.resolve(*layers))
    assert origin is not None  # weights are given
    plan, about, measured = _planned(dataset, origin, given, budget, report)
    chosen = finetune_defaults(dataset, origin, given, plan) | measured
    config = settings_of.resolve(chosen, loaded_with, *layers, place)
    return Resolved(dataset=dataset, config=config, origin=origin, plan=about)


def _planned(
    dataset: Dataset, origin: Origin, given: Mapping[str, Any], budget: Budget | None, report: Reporter
) -> tuple[Plan | None, Mapping[str, Any] | None, dict[str, Any]]:
    """A plan for classification of photos without a given way of fine-tuning; its record; measured settings."""
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
        report.message("preflight checks are skipped in so short a budget (--preflight requests them)")
    return plan, record(costs, plan, seconds) | {"message": message}, settings


def check_model(name: str) -> None:
    """Refuse a network that does not exist.

    Raises:
        ConfigError: names the nearest existing one.
    """
    get_entry(name)


def _refuse_other_tasks(settings: Mapping[str, Any], task: str) -> None:
    """Refuse settings without effect. Default values pass, as in the settings of an earlier run.

    Raises:
        ConfigError: a setting of another task was given.
    """
    defaults = settings_of.flat(RunConfig())
    for owner in task_names():
        given = [
            name for name in card_of(owner).settings if settings.get(name, defaults[name]) not in (None, defaults[name])
        ]
        if given and owner != task:
            raise ConfigError(
                f"setting `{given[0]}` applies to another task", got=task, expected=owner, do="leave it out"
            )


def _settings_of_loading(dataset: Dataset, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings a data set was loaded with; changing them afterwards is refused.

    Raises:
        ConfigError: a given loading setting differs.
    """
    kept = settings_of.to_dict(dataset.config or DataConfig())
    fixed = {key: value for key, value in kept.items() if key not in APPLIED_AFTER_LOADING}
    for key in fixed.keys() & given.keys():
        if plain(given[key]) != fixed[key]:
            do = f"give {key} to `opsin.load`, or give `opsin.train` the name or path of the data"
            raise ConfigError("this data set is loaded already", where=key, got=given[key], expected=fixed[key], do=do)
    return fixed


def prepare(dataset: Dataset, config: RunConfig, report: Reporter, origin: Origin | None = None) -> Prepared:
    """Pack the data, measure the input contract and build the network in its initial state.

    Args:
        dataset: its splits are packed.
        config: all settings, resolved.
        report: shows progress and notes.
        origin: the weights that `config` names; None reads them here, where it names any.
    """
    origin = origin or find_origin(config)
    check_settings(
        config.finetune,
        task=dataset.task,
        augmented=augmented_settings(config.augment),
        resolutions=config.train.resolutions,
    )
    check_targets(config.augment, get_task(dataset.task).targets)
    device = machine.prepare(config.train)
    if config.train.tensorboard:
        require_tensorboard()
    policy = size_policy(dataset, config)
    check_files(dataset, allow_leaks=config.data.allow_leaks)
    _check_training_samples(len(dataset.splits["train"]))
    splits = _packed(dataset, policy, config, report)
    for note in notes_of(dataset, splits):
        report.message(f"note: {note}")
    leaks = check_leaks(dataset, allow_leaks=config.data.allow_leaks, samples=splits)
    findings = (*leaks, near_in_packed(dataset, splits))
    for finding in findings:
        report.message(f"{finding.severity}: {finding.message}")
    _check_training_samples(len(splits["train"].images))
    height, width = splits["train"].images.shape[2:]
    size = policy or SizePolicy(height=height, width=width, fit=config.data.fit)
    contract = _contract(splits["train"], config, size, origin)
    spec = network_spec(dataset, config, contract, origin)
    task = get_task(dataset.task).for_training(config.train, splits["train"], len(dataset.classes))
    with seeded(config.train.seed):
        network = task.build(spec, len(dataset.classes))
    check_stages(network, config.finetune, epochs=config.train.epochs)
    _check_batch_of_one(network, splits["train"], contract, config, dataset.task)
    if origin is None:
        _init_from_data(network, splits["train"], contract)
    else:
        _start_from(origin, network, dataset, config, report)
    artifact = Artifact(
        network=network,
        task=dataset.task,
        classes=dataset.classes,
        spec=spec,
        preprocess=contract,
        meta=({} if origin is None else {"weights": dict(origin.record)})
        | ({"test_as_val": True} if config.data.test_as_val else {}),
    )
    return Prepared(
        dataset=dataset,
        config=config,
        task=task,
        splits=splits,
        findings=findings,
        artifact=artifact,
        device=device,
        origin=origin,
    )


def with_own_parts(prepared: Prepared, own: OwnParts) -> Prepared:
    """Add the user's own loss, augmentation and optimizer; the artefact names them.

    Raises:
        ConfigError: features are computed once, so the augmentation would have no effect.
    """
    if not own:
        return prepared
    if own.augment is not None and is_cached(prepared.config, prepared.dataset.task):
        what = "a user-defined augmentation has no effect on features that are computed once"
        raise ConfigError(what, where="augment", do="leave it out, or train more than the head: finetune='all'")
    artifact = replace(prepared.artifact, meta={**prepared.artifact.meta, "own_parts": own.names()})
    return replace(prepared, own=own, task=own.with_loss(prepared.task), artifact=artifact)


def _check_training_samples(count: int) -> None:
    if count < 2:
        raise DataError(
            "too few training samples", got=count, expected="2 or more", do="add images, or lower --val-fraction"
        )


def _contract(samples: Samples, config: RunConfig, size: SizePolicy, origin: Origin | None) -> Preprocess:
    """The input contract: measured, or as the pretrained weights expect it.

    Raises:
        ConfigError: a normalization other than the weights' own is requested.
    """
    if origin is None:
        return measure(samples, config.data.normalize, size)
    if config.data.normalize != "weights":
        low, high = origin.preprocess.range
        raise ConfigError(
            "pretrained weights define the normalization: with another one they train, but silently score far "
            "below what they can",
            where="normalize",
            got=config.data.normalize,
            expected=f"range [{low:g}, {high:g}], mean {origin.preprocess.mean}, sd {origin.preprocess.std}",
            do="leave --normalize out; --weights-range gives the input range where the file does not",
        )
    return replace(origin.preprocess, size=size)


def network_spec(dataset: Dataset, config: RunConfig, contract: Preprocess, origin: Origin | None) -> ModelSpec:
    """The spec of the network: its settings, overridden by those of its weights."""
    model, name = config.model, config.model.model if origin is None else origin.model
    head: dict[str, Any] = {"hidden": list(config.finetune.head or ())}
    if model.dropout is not None and (config.finetune.head is not None or is_cached(config, dataset.task)):
        # the features are the same in every epoch, so dropout applies above them
        head, model = head | {"dropout": model.dropout}, replace(model, dropout=None)
    pixelwise = get_task(dataset.task).pixelwise
    options = resolve_options(name, model, learned_input=contract.learned, decoder=pixelwise)
    options |= {} if origin is None else origin.options
    options |= {HEAD: head} if any(head.values()) else {}
    size = contract.size
    return ModelSpec(name=name, channels=contract.channels, height=size.height, width=size.width, options=options)


def _start_from(origin: Origin, network: nn.Module, dataset: Dataset, config: RunConfig, report: Reporter) -> None:
    """Put pretrained weights into a new network, and freeze their batch norms."""
    notes = origin.load(network, task=dataset.task, classes=dataset.classes)
    for note in (*origin.notes, *notes):
        report.message(f"weights: {note}")
    if not config.finetune.train_norms and isinstance(backbone := getattr(network, "backbone", None), nn.Module):
        pin_norms(backbone)


def _packed(
    dataset: Dataset, policy: SizePolicy | None, config: RunConfig, report: Reporter
) -> dict[SplitName, Samples]:
    with report.bar("packing images", sum(len(source) for source in dataset.splits.values())) as bar:
        return pack(
            dataset,
            policy,
            cache=usable_cache(),
            progress=lambda done, _: bar.at(done),
            skip_unreadable=config.data.skip_unreadable,
        )


def size_policy(dataset: Dataset, config: RunConfig) -> SizePolicy | None:
    """The size that images are packed at; None keeps the size they share."""
    side = config.data.input_size
    if side is not None:
        return SizePolicy(height=side, width=config.data.input_width or side, fit=config.data.fit)
    if dataset.size is None:
        raise DataError("images of different sizes need an input size", where=dataset.root, do="give --input-size 128")
    return None


def _check_batch_of_one(
    network: nn.Module, samples: Samples, contract: Preprocess, config: RunConfig, task: str
) -> None:
    """Refuse batches of one image for a network with a batch norm over vectors: one vector has no variance."""
    parts = config.train.accumulate
    if config.train.batch_size > parts or is_cached(config, task):
        return
    image = contract(gather(samples, torch.zeros(1, dtype=torch.int64)).images)
    try:
        with torch.no_grad(), seeded(config.train.seed):
            deepcopy(network).train()(image)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        got = f"batch_size {config.train.batch_size} in {parts} part{'s' * (parts > 1)}"
        what = "this network normalizes over the batch, and a batch of one image has no variance"
        do = f"give --batch-size {2 * parts} or more, or --no-batch-norm where the network has it"
        raise ConfigError(what, where="batch_size", got=got, expected="2 or more images a part", do=do) from error


def _init_from_data(network: nn.Module, samples: Samples, contract: Preprocess) -> None:
    init = getattr(network, "init_from_data", None)
    if init is None:
        return
    bytes_of_one = 4 * int(np.prod(samples.images.shape[1:]))  # float32
    count = min(INIT_SAMPLES, max(2, INIT_BYTES // bytes_of_one), len(samples.images))
    rows = np.linspace(0, len(samples.images) - 1, count).astype(np.int64)
    init(contract(gather(samples, torch.from_numpy(rows)).images))


def plain(value: Any) -> Any:
    """A setting as JSON has it: tuples as lists."""
    return list(value) if isinstance(value, tuple) else value
