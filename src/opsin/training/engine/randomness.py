"""The random numbers that layers draw in a step: dropout, stochastic depth, noise.

Such layers only draw from torch's generators (`torch.nn.functional.dropout` has no argument for one), and
a network from timm or a user may contain any of them. So the generators are set before each step, from (seed,
step): then a resumed run draws what an unbroken one does. It costs some 10 microseconds. Everything else in Opsin draws
from (seed, epoch, sample) without a generator, or from one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SEED_STRIDE = 1_000_003
"""Keeps the seeds of neighbouring runs apart."""
RANK_STRIDE = 1_000_000_007_000_003
"""Keeps the seeds of the processes of a step apart."""


def seed_layers(seed: int, step: int, device: torch.device, rank: int = 0) -> None:
    """Set the generators that layers draw from, the processor's and the device's, for one step of the run of this seed.

    `torch.manual_seed` sets those of all kinds of device: on a machine without them it notes from where it was called,
    for when they come to use, at every step.

    `rank`: number of the process, where several share a step: each draws for its own samples, so what layers draw for a
    sample depends on the number of processes, unlike everything else.
    """
    value = (seed * SEED_STRIDE + step + rank * RANK_STRIDE) % (1 << 63)
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        module = torch.get_device_module(device)
        getattr(module, "manual_seed_all", module.manual_seed)(value)  # Apple's has one device


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Restore the caller's generators after the block: training does not change the random numbers of a notebook."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
