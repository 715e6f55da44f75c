"""Time of a network on this machine, measured over a few steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from opsin.models.parts.layers import seeded
from opsin.models.table import LayerTable
from opsin.models.wrappers.forward import to_channels_last
from opsin.planning.request import Request, autocast, batch_of, build, feature_length, head_outputs, loss_of, run

REPEATS = 3
CALIBRATION_WORK = 2_000_000_000
"""Multiply-adds of the forward pass of one calibration step: a fraction of a second on two cores."""


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds on this machine, medians of `repeats` steps of `batch` images after one to warm up."""

    seconds_per_image_inference: float
    seconds_per_image_training: float
    batch: int
    repeats: int
    threads: int
    samples: int | None = None

    @property
    def seconds_per_epoch(self) -> float | None:
        """Of training on `samples` images, where their number is known."""
        return None if self.samples is None else self.samples * self.seconds_per_image_training


def calibrate(request: Request, layers: LayerTable, *, samples: int | None = None) -> Time:
    """Time the network of a request on the CPU, forward, and forward with backward."""
    batch = max(1, min(request.part, CALIBRATION_WORK // max(1, layers.multiply_adds)))
    with seeded(0):
        network = to_channels_last(build(request))
    spec = request.spec
    images = torch.zeros(batch, spec.channels, spec.height, spec.width)
    images = images.contiguous(memory_format=torch.channels_last)
    loaded = batch_of(request, images)

    def predict() -> None:
        with torch.no_grad(), autocast(request.precision):
            run(network, images)

    def train() -> None:
        with autocast(request.precision):
            outputs = run(network, images) if features is None else head_outputs(network, features)
        outputs = {name: output.float() for name, output in outputs.items()}
        loss_of(request, outputs, loaded).backward()  # type: ignore[no-untyped-call]
        network.zero_grad(set_to_none=True)

    features = torch.zeros(batch, feature_length(network)) if request.cached else None
    network.eval()
    inference = _median_seconds(predict)
    network.train()
    training = _median_seconds(train)
    return Time(
        seconds_per_image_inference=inference / batch,
        seconds_per_image_training=training / batch,
        batch=batch,
        repeats=REPEATS,
        threads=torch.get_num_threads(),
        samples=samples,
    )


def _median_seconds(step: Callable[[], None]) -> float:
    step()  # the first one also allocates
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
