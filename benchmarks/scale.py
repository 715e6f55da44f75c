"""Images/s of two processes with one thread each over one process with two, and over plain DistributedDataParallel.

Five networks, the same global batch on all sides. `one` and `two` are `opsin.training.train` as users call it, timed
from step to step, without augmentation; `plain` is the loop of PyTorch's tutorial
(https://docs.pytorch.org/tutorials/intermediate/ddp_tutorial.html) on the same network and batches in memory, without
decisions, checks of the losses or checkpoints. Sides take turns, several rounds; each cell is the median over rounds of
the median step. Asked: `two` over `one` 0.9 or more, over `plain` 1 or more.

On a busy machine times on the wall say little. The last two columns are the same ratios of processor time per step, all
threads and processes together: what the sides cost whoever else is at work. Waiting for each other is not in it.

    python benchmarks/scale.py [--rounds 3] [--steps 24] [--networks plain small …]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from opsin.openmp import set_waiting

NETWORKS = {"plain": (32, 128), "small": (32, 128), "tiny": (28, 128), "lenet5": (28, 256), "resnet18": (64, 128)}
"""Side of the images in pixels, and images in a step."""
WARM_STEPS = 4
Seconds = tuple[float, float]
"""On the wall, and of the processor in this process."""
CLASSES = 10


def made_arrays(side: int, count: int) -> dict[str, Any]:
    """Images of noise with labels, and a val split of a few."""
    import numpy as np

    draws = np.random.default_rng(0)
    found: dict[str, Any] = {"classes": [str(k) for k in range(CLASSES)]}
    for split, size in (("train", count), ("val", 2 * CLASSES)):
        found[f"{split}_images"] = draws.integers(0, 256, (size, side, side, 3), dtype=np.uint8)
        found[f"{split}_labels"] = np.arange(size) % CLASSES
    return found


def opsin_seconds(name: str, steps: int, threads: int, batch: int | None = None) -> Seconds:
    """Seconds of a step of Opsin's, by `_per_step`. `batch`: images in a step, if not the usual."""
    from opsin.training import train
    from opsin.training.engine.step import Stepper

    side, usual = NETWORKS[name]
    batch = batch or usual
    data, seen = made_arrays(side, batch * steps), list[Seconds]()
    step = Stepper.train

    def watched(*args: Any, **kwargs: Any) -> Any:
        means = step(*args, **kwargs)
        seen.append((time.perf_counter(), time.process_time()))
        return means

    # not by a callback: as it may ask to stop, the processes would agree on that after each step
    with tempfile.TemporaryDirectory() as out, mock.patch.object(Stepper, "train", watched):
        train(
            data,
            name="run",
            out=out,
            model=name,
            epochs=1,
            batch_size=batch,
            optimizer="sgd",
            precision="float32",
            channels_last=True,
            threads=threads,
            preflight=False,
            flip=0.0,
            shift=0,
            quiet=True,
        )
    return _per_step(seen)


def plain_seconds(name: str, steps: int, threads: int) -> Seconds:
    """Seconds of a step of the tutorial's loop, by `_per_step`."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, TensorDataset
    from torch.utils.data.distributed import DistributedSampler

    from opsin.config import ModelConfig
    from opsin.models.building import build_network
    from opsin.models.registry import ModelSpec, resolve_options

    torch.set_num_threads(threads)
    side, batch = NETWORKS[name]
    dist.init_process_group("gloo")
    options = resolve_options(name, ModelConfig())
    network = build_network(
        ModelSpec(name=name, channels=3, height=side, width=side, options=options), {"logits": CLASSES}, seed=0
    )
    replica = DistributedDataParallel(network.to(memory_format=torch.channels_last))
    arrays = made_arrays(side, batch * steps)
    images = torch.from_numpy(arrays["train_images"]).permute(0, 3, 1, 2)
    samples = TensorDataset(images, torch.from_numpy(arrays["train_labels"]))
    loader = DataLoader(samples, batch_size=batch // dist.get_world_size(), sampler=DistributedSampler(samples))
    optimizer = torch.optim.SGD(replica.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    loss_of, seen = nn.CrossEntropyLoss(), []
    for pixels, labels in loader:
        optimizer.zero_grad()
        shown = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
        loss_of(replica(shown)["logits"], labels).backward()
        optimizer.step()
        seen.append((time.perf_counter(), time.process_time()))
    dist.destroy_process_group()
    return _per_step(seen)


def _per_step(moments: list[Seconds]) -> Seconds:
    """Median seconds on the wall and mean seconds of the processor between moments, without the first steps."""
    if not moments:
        return 0.0, 0.0
    kept = moments[WARM_STEPS:]
    wall = statistics.median(after - before for (before, _), (after, _) in pairwise(kept))
    return wall, (kept[-1][1] - kept[0][1]) / (len(kept) - 1)


def serve(line: Connection) -> None:
    """A process that takes functions and answers with what they give, until the other end is closed."""
    while True:
        try:
            variables, function, arguments = line.recv()
        except (EOFError, OSError):
            return
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
        os.environ.update(variables)
        line.send(function(*arguments))


class Processes:
    """Processes that stay, so that PyTorch is imported once in each."""

    def __init__(self, count: int = 2) -> None:
        context = multiprocessing.get_context("spawn")
        self.lines: list[Connection] = []
        for _ in range(count):
            here, there = context.Pipe()
            context.Process(target=serve, args=(there,), daemon=True).start()
            self.lines.append(here)

    def run(self, size: int, function: Any, *arguments: Any) -> Any:
        """What process 0 of `size` gives."""
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1])}
        for rank, line in enumerate(self.lines[:size]):
            group = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)} if size > 1 else {}
            line.send((group | (place if size > 1 else {}), function, arguments))
        answers = [line.recv() for line in self.lines[:size]]
        return answers[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    asked = parser.parse_args()
    set_waiting()  # as `opsin` does, for all sides
    os.environ.setdefault("OPSIN_CACHE", str(Path(tempfile.gettempdir()) / "opsin-bench-scale"))
    processes = Processes()
    print("network     batch   one, images/s   two   plain   two/one   two/plain   load   processor: one, plain")
    for name in asked.networks:
        batch = NETWORKS[name][1]
        rounds: dict[str, list[Seconds]] = {"one": [], "two": [], "plain": []}
        for _ in range(asked.rounds):
            rounds["one"].append(processes.run(1, opsin_seconds, name, asked.steps, 2))
            rounds["two"].append(processes.run(2, opsin_seconds, name, asked.steps, 1))
            rounds["plain"].append(processes.run(2, plain_seconds, name, asked.steps, 1))
        walls, used = zip(*(map(statistics.median, zip(*rounds[side], strict=True)) for side in rounds), strict=True)
        one, two, plain = (batch / seconds for seconds in walls)
        load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"
        print(
            f"{name:<10}{batch:>7}{one:>16,.0f}{two:>6,.0f}{plain:>8,.0f}"
            f"{two / one:>10.2f}{two / plain:>12.2f}{load:>7}"
            f"{used[0] / (2 * used[1]):>12.2f}{used[2] / used[1]:>7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
