"""From data and settings to everything that a trainer needs before its first step.

settings (`resolving.py`) -> pack -> contract -> network
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from opsin.artifact import Artifact
from opsin.batches.augment import check_bits, check_targets
from opsin.batches.loader import gather
from opsin.batches.preprocess import Preprocess, measure
from opsin.config import RunConfig
from opsin.data.pack import pack, usable_cache
from opsin.data.quality.leaks import check_files, check_leaks, near_in_packed
from opsin.data.samples import Dataset, Samples
from opsin.errors import ConfigError, DataError
from opsin.models.freezing import pin_norms
from opsin.models.parts.heads import HEAD
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec, resolve_options
from opsin.ops.depth import DTYPES
from opsin.progress import Reporter
from opsin.tasks import get_task
from opsin.training.engine import machine
from opsin.training.engine.budget import Budget
from opsin.training.engine.own_parts import OwnParts
from opsin.training.engine.stages import check_stages
from opsin.training.engine.tensorboard import require_tensorboard
from opsin.training.features import augmented_settings, is_cached
from opsin.training.setup.finetune import check_settings
from opsin.training.setup.larger import larger_policy
from opsin.training.setup.origin import Origin, find_origin
from opsin.training.setup.prepared import Prepared, notes_of
from opsin.training.setup.resolving import resolve_settings, size_policy
from opsin.types import SizePolicy, SplitName

INIT_SAMPLES = 5000
"""Training images from which data-dependent weights are set."""
INIT_BYTES = 1 << 30
"""Room for these images, of which large ones are taken fewer."""


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


def prepare(dataset: Dataset, config: RunConfig, report: Reporter, origin: Origin | None = None) -> Prepared:
    """Pack the data, measure the input contract and build the network in its initial state.

    Args:
        dataset: its splits are packed.
        config: all settings, resolved.
        report: shows progress and notes.
        origin: the weights that `config` names; None reads them here, where it names any.
    """
    origin = origin or find_origin(config)
    check_before_packing(dataset, config)
    device = machine.prepare(config.train)
    machine.import_dynamo()
    policy = size_policy(dataset, config)
    splits = _packed(dataset, config, report)
    if splits["train"].images.dtype == DTYPES[16]:
        report.message("16 bits a channel kept" if dataset.bits == 16 else "16 bits a channel; the files have 8")
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


def check_before_packing(dataset: Dataset, config: RunConfig) -> None:
    """Refuse all that can be refused before an image is packed.

    Raises:
        RefusedError: settings that do not go together or with the data, equal files in two splits, too few samples.
    """
    check_settings(
        config.finetune,
        task=dataset.task,
        augmented=augmented_settings(config.augment),
        resolutions=config.train.resolutions,
    )
    check_targets(config.augment, get_task(dataset.task).targets)
    check_bits(config.augment, config.data.bits)
    if config.train.tensorboard:
        require_tensorboard()
    size_policy(dataset, config)
    check_files(dataset, allow_leaks=config.data.allow_leaks)
    _check_training_samples(len(dataset.splits["train"]))


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


def _packed(dataset: Dataset, config: RunConfig, report: Reporter) -> dict[SplitName, Samples]:
    larger = larger_policy(dataset, config)
    with report.bar("packing images", sum(len(source) for source in dataset.splits.values())) as bar:
        return pack(
            dataset,
            size_policy(dataset, config),
            cache=usable_cache(),
            progress=lambda done, _: bar.at(done),
            skip_unreadable=config.data.skip_unreadable,
            larger={} if larger is None else {"train": larger},
        )


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
