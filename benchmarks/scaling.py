"""Forecasts images/s for many processes from a few measured figures, and checks it on 1, 2 and 4 processes here.

    python benchmarks/scaling.py check [--network small] [--steps 20]     measures, forecasts, compares
    python benchmarks/scaling.py forecast                                 1 to 1,024 GPUs, from assumed figures

The model is `step_seconds` below, explained in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from dataclasses import dataclass

from scale import NETWORKS, Processes, opsin_seconds

BACKWARD_SHARE = 2 / 3
"""Of a step's computing; gradients are averaged while it runs."""
PARTS = (1, 2, 4)
"""A batch is timed whole and cut into so many."""
DOLLARS = 2.0
"""Assumed price of a GPU and hour."""
GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is measured (or assumed) of one process and its connections.

    `fixed_s`: seconds of a step that no image adds to. `image_s`: seconds an image adds. `gradient_bytes`: of all
    gradients. `near_bytes_s`, `far_bytes_s`: bytes/s of a ring inside a machine, and of one over machines, for each
    process. `latency_s`: of one message. `input_images_s`: images/s that one process can gather and augment. `cores`:
    processes beyond so many on a machine share its cores; None where each has a device of its own. `a_machine`:
    processes on a machine. `jitter`: standard deviation of a step over its mean.
    """

    fixed_s: float
    image_s: float
    gradient_bytes: float
    near_bytes_s: float
    far_bytes_s: float
    latency_s: float
    input_images_s: float = math.inf
    cores: int | None = None
    a_machine: int = 8
    jitter: float = 0.0


def step_seconds(f: Figures, processes: int, batch: int) -> float:
    """Seconds of a step of `batch` images over `processes`: the slower of input and of computing and averaging."""
    share = math.ceil(batch / processes)
    crowd = 1.0 if f.cores is None else max(1.0, processes / f.cores)
    computing = (f.fixed_s + f.image_s * share) * crowd
    computing *= 1 + f.jitter * math.sqrt(2 * math.log(processes))  # the slowest of many: arXiv 1604.00981, section 2
    exposed = max(0.0, averaging_seconds(f, processes) - BACKWARD_SHARE * computing)
    return max(share * crowd / f.input_images_s, computing + exposed)


def averaging_seconds(f: Figures, processes: int) -> float:
    """Seconds of one ring all-reduce of all gradients: 2 (n - 1) / n of them pass each connection.

    Source: Patarasuk, Yuan, "Bandwidth optimal all-reduce algorithms", J. Parallel Distrib. Comput. 69 (2009).
    The latency is that of a tree over machines, which NCCL takes for many: 2 log2 n messages.
    """
    if processes == 1:
        return 0.0
    rate = f.near_bytes_s if processes <= f.a_machine else min(f.near_bytes_s, f.far_bytes_s)
    return 2 * (processes - 1) / processes * f.gradient_bytes / rate + 2 * math.log2(processes) * f.latency_s


def all_reduce_seconds(count: int, repeats: int) -> float:
    """Median seconds of adding up `count` numbers of float32 over the group."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    values, seen = torch.ones(count), []
    for _ in range(repeats):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(values.fill_(1.0))
        seen.append(time.perf_counter() - began)
    dist.destroy_process_group()
    return statistics.median(seen)


def num_parameters(name: str) -> int:
    """Numbers that a network of `benchmarks/scale.py` trains."""
    from opsin.config import ModelConfig
    from opsin.models.registry import ModelSpec, build_network, resolve_options

    side, _ = NETWORKS[name]
    options = resolve_options(name, ModelConfig())
    spec = ModelSpec(name=name, channels=3, height=side, width=side, options=options)
    return sum(parameter.numel() for parameter in build_network(spec, {"logits": 10}, seed=0).parameters())


def measured(processes: Processes, name: str, steps: int) -> Figures:
    """The figures of this machine, whose cores the processes share."""
    _, batch = NETWORKS[name]
    sizes = [batch // parts for parts in PARTS]
    seconds = [processes.run(1, opsin_seconds, name, steps, 1, size)[0] for size in sizes]
    slope, intercept = statistics.linear_regression(sizes, seconds)
    numbers = num_parameters(name)
    latency = processes.run(2, all_reduce_seconds, 1, 50) / 2
    moved = max(processes.run(2, all_reduce_seconds, numbers, 20) - 2 * latency, 1e-9)
    return Figures(
        fixed_s=max(intercept, 0.0),
        image_s=slope,
        gradient_bytes=4.0 * numbers,
        near_bytes_s=4.0 * numbers / moved,
        far_bytes_s=math.inf,
        latency_s=latency,
        cores=len(os.sched_getaffinity(0)),
    )


def check(name: str, steps: int) -> None:
    """Measure, forecast and compare."""
    processes, (_, batch) = Processes(4), NETWORKS[name]
    figures = measured(processes, name, steps)
    print(figures)
    print("processes   forecast, images/s   measured   error   load")
    for count in (1, 2, 4):
        forecast = batch / step_seconds(figures, count, batch)
        found = batch / processes.run(count, opsin_seconds, name, steps, 1)[0]
        print(
            f"{count:<12}{forecast:>18,.0f}{found:>11,.0f}{forecast / found - 1:>8.0%}{os.getloadavg()[0]:>7.1f}",
            flush=True,
        )


ASSUMED = Figures(
    fixed_s=0.012,
    image_s=1 / 2600,
    gradient_bytes=4 * 25.6e6,
    near_bytes_s=200e9,
    far_bytes_s=40e9,
    latency_s=15e-6,
    input_images_s=12_000,
    jitter=0.02,
)
"""ResNet-50 at 224 px in bfloat16 on GPUs of the A100's class, eight a machine, 8 x 200 Gbit/s between machines."""


def forecast() -> None:
    """A table for 1 to 1,024 GPUs, with the batch of each GPU kept, and with that of the step kept."""
    print("GPUs   256 images a GPU: images/s, efficiency   4,096 a step: images/s, efficiency")
    for count in GPUS:
        cells = []
        for batch, lone in ((256 * count, 256), (4096, 4096)):
            rate, alone = batch / step_seconds(ASSUMED, count, batch), lone / step_seconds(ASSUMED, 1, lone)
            cells.append(f"{rate:>22,.0f}{rate / alone / count:>12.0%}" if batch >= count else f"{'-':>34}")
        print(f"{count:<7}{'   '.join(cells)}")
    print("GPUs   ImageNet, 90 epochs: hours, $   1e9 images: hours, $")
    for count in GPUS:
        rate = 256 * count / step_seconds(ASSUMED, count, 256 * count)
        hours = [images / rate / 3600 for images in (90 * 1_281_167, 1e9)]
        print(f"{count:<7}" + "".join(f"{h:>15,.1f}{h * count * DOLLARS:>13,.0f}" for h in hours))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "forecast"])
    parser.add_argument("--network", default="small", choices=list(NETWORKS))
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    if asked.what == "check":
        check(asked.network, asked.steps)
    else:
        forecast()


if __name__ == "__main__":
    main()
