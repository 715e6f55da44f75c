"""What the processes of a group do in tests; each function is called in all of them."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opsin.artifact import Artifact
from opsin.batches.loader import batches
from opsin.batches.preprocess import Preprocess
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.data.samples import Samples
from opsin.errors import OpsinError
from opsin.group import joined
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec
from opsin.tasks import get_task
from opsin.training import train
from opsin.training.engine.hooks import Callback, StepContext
from opsin.training.engine.shards import Shards, own_part
from opsin.training.engine.validation import Validation
from opsin.types import SizePolicy

QUICK: dict[str, Any] = {
    "model": "plain",
    "filters": (4, 8),
    "dense": (),
    "batch_norm": False,
    "optimizer": "sgd",
    "lr": 0.05,
    "epochs": 2,
    "batch_size": 64,
    "subset": "train=201,val=97",
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "preflight": False,
    "quiet": True,
}
"""A network without batch norm and dropout: what it learns does not depend on the number of processes."""


def trained(source: str, out: Path, name: str, settings: dict[str, Any]) -> str:
    """Train, without the settings that are None; returns the run's folder, or kind and text of an error of Opsin's."""
    given = {key: value for key, value in (QUICK | settings).items() if value is not None}
    try:
        return str(train(source, name=name, out=out, **given).path)
    except OpsinError as error:
        return f"{type(error).__name__}: {error}"


class TerminateAt(Callback):
    """Sends its own process SIGTERM after a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def on_step(self, step: StepContext) -> None:
        if step.step == self.at:
            signal.raise_signal(signal.SIGTERM)


def terminated(source: str, out: Path, name: str, settings: dict[str, Any], step: int) -> str:
    """As `trained`, with a SIGTERM to the lead after a step."""
    return trained(source, out, name, settings | {"callbacks": [TerminateAt(step)]})


class TerminateBatch:
    """An augmentation that changes nothing, and sends a process SIGTERM once it has seen so many batches."""

    def __init__(self, rank: int, batches: int) -> None:
        self.rank, self.left = rank, batches

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.left -= 1
        if self.left == 0 and os.environ.get("RANK") == str(self.rank):
            signal.raise_signal(signal.SIGTERM)
        return images


def terminated_by_batch(source: str, out: Path, name: str, settings: dict[str, Any], rank: int, batches: int) -> str:
    """As `trained`, with a SIGTERM to a process that has no callbacks."""
    return trained(source, out, name, settings | {"augment": TerminateBatch(rank, batches)})


def parts_held() -> tuple[int, int, int]:
    """Numbers of weights that this process holds of a network, that there are, and of whole tensors that are left."""
    with seeded(0):
        network = get_task("classify").build(ModelSpec(name="small", channels=3, height=32, width=32, options={}), 10)
    whole = [weakref.ref(parameter) for parameter in network.parameters()]
    with joined() as group:
        shards = Shards(network, group, torch.device("cpu"))
        held = sum(own_part(parameter).numel() for parameter in shards.network.parameters())
        gc.collect()
        left = sum(reference() is not None for reference in whole)
    return held, sum(parameter.numel() for parameter in network.parameters()), left


def val_scores(count: int) -> dict[str, float]:
    """Scores of a network as it is seeded on `count` images."""
    images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    samples = made_samples(images.numpy(), np.arange(count) % 3)
    spec = ModelSpec(name="plain", channels=1, height=16, width=16, options={"filters": [4], "dense": []})
    task = get_task("classify")
    with seeded(0):
        network = task.build(spec, 3)
    size = SizePolicy(height=16, width=16, fit="letterbox")
    contract = Preprocess(size=size, color="gray", range=(0.0, 1.0), mean=(0.5,), std=(0.5,))
    classes = ("a", "b", "c")
    artifact = Artifact(network=network, task="classify", classes=classes, spec=spec, preprocess=contract, meta={})
    with joined() as group:
        return Validation(task, artifact, samples, None, torch.device("cpu"), group=group).scores()


def made_samples(images: Any, labels: Any) -> Samples:
    """Samples of a split, in memory."""
    count = len(images)
    sizes = np.full((count, 2), images.shape[2:], np.int32)
    return Samples(images=images, ids=[str(i) for i in range(count)], sizes=sizes, labels=labels)


def indices(count: int, batch_size: int, epoch: int) -> list[list[int]]:
    """Numbers of the samples that count, of each step."""
    return _indices(made_samples(np.zeros((count, 1, 2, 2), np.uint8), np.zeros(count, np.int64)), batch_size, epoch)


def indices_in_shards(source: str, batch_size: int, epoch: int) -> list[list[int]]:
    """As `indices`, of the training samples in shards."""
    return _indices(pack(load(source), None)["train"], batch_size, epoch)


def _indices(samples: Samples, batch_size: int, epoch: int) -> list[list[int]]:
    with joined() as group:
        stream = batches(samples, batch_size, seed=0, epoch=epoch, training=True, group=group)
        return [batch.index[: len(batch) if batch.share is None else batch.share.counted].tolist() for batch in stream]
