"""A run of several processes: what the lead hands over to the others, and what those do.

    lead        data, settings, run folder, precision, checks ── hand_over ── train ── artefact, scores, report
    follower                                       waits ── follow: same data, same settings ── train ── waits

A follower decides nothing and writes nothing. It needs the data at the same place, but not the run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from opsin import config as settings_of
from opsin.config import RunConfig
from opsin.data.load import load
from opsin.data.samples import Dataset
from opsin.group import Group
from opsin.models.wrappers.forward import Precision
from opsin.progress import QUIET
from opsin.runs import Run, RunWriter
from opsin.training.engine.checkpoints import Checkpoint
from opsin.training.engine.loop import Trainer
from opsin.training.engine.own_parts import OwnParts
from opsin.training.setup.prepared import Prepared
from opsin.training.setup.preparing import prepare, with_own_parts
from opsin.training.trainers import made_trainer, with_features


class SilentWriter(RunWriter):
    """The run folder as a follower has it, which may not be there: nothing is written, the log least of all."""

    def event(self, event: str, **values: object) -> None:
        """Nothing."""

    def rewind(self, epoch: int) -> None:
        """Nothing."""

    def locked(self) -> AbstractContextManager[None]:
        """The lead holds the lock."""
        return nullcontext()


def hand_over(
    group: Group,
    writer: RunWriter,
    prepared: Prepared,
    precision: Precision,
    *,
    start: Mapping[str, float],
    resumed: bool,
    parts: int,
) -> None:
    """Tell the followers everything that was decided before the first step; by the lead.

    Args:
        start: what the weights score on val before they are trained.
        resumed: there is a checkpoint to go on from.
        parts: into which batches had to be cut before the group was started again.
    """
    about = {
        "path": str(writer.path),
        "config": settings_of.to_dict(prepared.config),
        "precision": asdict(precision),
        "threads": torch.get_num_threads(),
        "start": dict(start),
        "resumed": resumed,
        "parts": parts,
    }
    group.tell("start", about)


def follow(
    data: Dataset | str | Path | Mapping[str, Any], *, root: Path | str | None, own: OwnParts, group: Group
) -> Run:
    """Train along with the lead, and wait until it has finished.

    Args:
        data, root, own: as the lead was given them.

    Raises:
        FollowerError: the lead has failed.
    """
    told = group.told("start")
    config = settings_of.from_stored(told["config"], where="the settings that the lead has handed over")
    torch.set_num_threads(told["threads"])
    dataset = loaded(data, root or config.root, config)
    prepared = with_own_parts(prepare(dataset, config, QUIET), own)
    prepared = with_features(prepared, QUIET, started=told["resumed"], budget=None)
    writer = SilentWriter(Run.at(told["path"]))
    precision = Precision(**told["precision"])
    trainer = made_trainer(prepared, writer, QUIET, precision=precision, start=told["start"], group=group)
    if told["resumed"]:
        trainer.restore(shared_checkpoint(group, None))
    take_parts(trainer, told["parts"])
    trainer.fit()
    group.told("end")
    return writer.run


def loaded(data: Dataset | str | Path | Mapping[str, Any], root: Path | str | None, config: RunConfig) -> Dataset:
    """The data of a run whose settings are known."""
    if isinstance(data, Dataset):
        return data
    return load(data, root=root, config=config.data, task=config.task)


def shared_checkpoint(group: Group, checkpoint: Checkpoint | None) -> Checkpoint:
    """The lead's checkpoint, on the CPU; what followers give is not looked at."""
    tensors, state = (checkpoint.tensors, checkpoint.state) if checkpoint is not None else ({}, {})
    return Checkpoint(group.shared_named(tensors), group.shared_plain(dict(state)))


def take_parts(trainer: Trainer, parts: int) -> None:
    """Cut batches into as many parts as were needed before the group was started again for want of memory."""
    if parts > trainer.state.accumulate:
        trainer.cut_batches(parts)
