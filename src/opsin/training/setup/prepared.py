"""A prepared run before its first step, and its records: data, machine, precision."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import torch

from opsin.artifact import Artifact
from opsin.batches.loader import gather
from opsin.config import RunConfig
from opsin.data.pack import usable_cache
from opsin.data.quality.findings import Finding
from opsin.data.samples import Dataset, Samples
from opsin.data.targets import KINDS, shown_counts
from opsin.models.wrappers.forward import Precision
from opsin.runs import DataCard, Run, RunWriter, SplitCard, Timing
from opsin.runs.codec import from_json, to_json
from opsin.tasks.base import Task
from opsin.training.engine import machine, precision
from opsin.training.engine.own_parts import NO_OWN_PARTS, OwnParts
from opsin.training.engine.precision import Choice
from opsin.training.engine.step import Stepper
from opsin.training.engine.threads import ThreadChoice
from opsin.training.features import Features
from opsin.training.setup.origin import Origin
from opsin.types import JsonMapping, SplitName


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything that a trainer needs, before the first step."""

    dataset: Dataset
    config: RunConfig
    task: Task
    splits: Mapping[SplitName, Samples]
    findings: tuple[Finding, ...]
    artifact: Artifact
    device: torch.device
    origin: Origin | None = None
    features: Features | None = None
    plan: JsonMapping | None = None
    """The basis of a plan for photos, if any: costs, choice, seconds left."""
    own: OwnParts = NO_OWN_PARTS


def describe_data(prepared: Prepared) -> DataCard:
    """The content of data.json."""
    dataset = prepared.dataset
    counts = dataset.counts()
    shape = prepared.splits["train"].images.shape
    return DataCard(
        name=dataset.name,
        task=dataset.task,
        classes=tuple(dataset.classes),
        layout=dataset.layout,
        root=str(dataset.root) if dataset.root else None,
        published=dataset.published,
        splits={
            split: SplitCard(
                n=len(samples.images),
                class_counts=tuple(counts[split]) if split in counts else _shown(samples, len(dataset.classes)),
            )
            for split, samples in prepared.splits.items()
        },
        size=tuple(shape[2:]),
        channels=shape[1],
        bits=prepared.config.data.bits,
        fingerprint=dataset.fingerprint(),
        test_content=_test_content(dataset, prepared.config),
        test_as_val=True if prepared.config.data.test_as_val else None,
        notes=tuple(notes_of(dataset, prepared.splits)),
        skipped={split: tuple(samples.skipped) for split, samples in prepared.splits.items() if samples.skipped},
        findings=tuple(prepared.findings),
    )


def _test_content(dataset: Dataset, config: RunConfig) -> str | None:
    """The content hash of the test split, by which openings are counted over all runs; None without a test split."""
    split: SplitName = "val" if config.data.test_as_val else "test"
    return dataset.splits[split].content if split in dataset.splits else None


def notes_of(dataset: Dataset, splits: Mapping[SplitName, Samples]) -> list[str]:
    """Notes on changes to the data; skipped samples are named."""
    notes = list(dataset.notes)
    for split, samples in splits.items():
        notes += [f"{split}: {note}" for note in samples.notes]
        notes += [f"{split}: skipped: {name}" for name in samples.skipped]
    return notes


def _shown(samples: Samples, num_classes: int) -> tuple[int, ...] | None:
    """How many images show each class, where targets that are decoded with them say so."""
    decoded = {kind: rows for kind, rows in samples.targets.items() if KINDS[kind].with_images}
    counts = shown_counts(decoded, num_classes)
    return None if counts is None else tuple(counts.tolist())


def choose_precision(prepared: Prepared, *, sharded: bool = False) -> Choice:
    """Precision and memory format: requested, remembered, or timed on throw-away copies of the network.

    Args:
        prepared: the run.
        sharded: no process could train the whole network to time it; convolutions take divided weights as they lie.
    """
    config, spec = prepared.config, prepared.artifact.spec
    if sharded and prepared.features is None:
        dtype = "float32" if config.train.precision == "auto" else config.train.precision
        return Choice(Precision(dtype=dtype, channels_last=False), ())
    if prepared.features is not None:  # a head on a few thousand features gains nothing
        return Choice(Precision(compile=config.train.compile), ())
    size = min(config.train.batch_size, len(prepared.splits["train"].images))
    key = json.dumps([asdict(replace(spec, options=dict(spec.options))), size])
    return precision.choose(
        config.train,
        prepared.device,
        timer=lambda candidate: timed_step(prepared, candidate, size),
        batch=size,
        key=key,
        cache=usable_cache(),
    )


def timed_step(prepared: Prepared, candidate: Precision, size: int) -> Callable[[], object]:
    """A training step on a copy of the network in its current state, for the stop-watch."""
    stepper = Stepper(
        copy.deepcopy(prepared.artifact.network).train(),
        task=prepared.task,
        preprocess=prepared.artifact.preprocess,
        config=prepared.config,
        precision=candidate,
        device=prepared.device,
        num_classes=len(prepared.dataset.classes),
        own=prepared.own,
    )
    batch = gather(prepared.splits["train"].to_augment, torch.arange(size))
    return lambda: stepper.step(batch, step=0, epoch=0, factor=0.0)


def recorded_choice(run: Run) -> Choice | None:
    """The recorded precision of a run, which a resumed run keeps."""
    found = run.environment
    if found.precision is None:
        return None
    chosen = Precision(dtype=found.precision, channels_last=bool(found.channels_last), compile=bool(found.compiled))
    return Choice(chosen, tuple(to_json(timing) for timing in found.timings))


def write_environment(
    writer: RunWriter, device: torch.device, choice: Choice, thread_choice: ThreadChoice | None = None
) -> None:
    """Write environment.json: versions, processor, precision and threads, and the timings behind both."""
    chosen = choice.precision
    found = replace(
        machine.describe(device),
        precision=chosen.dtype,
        channels_last=chosen.channels_last,
        compiled=chosen.compile,
        timings=tuple(from_json(Timing, dict(timing), "timings") for timing in choice.timings),
    )
    if thread_choice is not None:
        found = replace(
            found,
            threads=thread_choice.threads,
            busy_cores=math.nan if thread_choice.busy_cores is None else round(thread_choice.busy_cores, 2),
            thread_timings=thread_choice.timings,
        )
    writer.environment(found)
