"""Peak memory of training: what `opsin plan` forecasts against what the process really takes.

Ten networks, three batch sizes, float32 and bfloat16. Each case trains two steps of our own `Stepper` in a process of
its own; measured is the growth of its resident memory at the peak (VmHWM), so what Python and torch take by themselves
is left out. Images are small, for bfloat16 tiny: convolutions in bfloat16 take minutes on processors without the
arithmetic for it.

    python benchmarks/memory.py            all cases; exit code 1 when one is off by more than 15 %
    python benchmarks/memory.py --quick    one batch size

Linux only: the peak is read from /proc.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from opsin.batches.batch import Batch
from opsin.batches.preprocess import Preprocess
from opsin.config import ModelConfig, RunConfig, TrainConfig
from opsin.models.registry import ModelSpec, build_network, resolve_options
from opsin.plan.memory import memory_of
from opsin.plan.request import Request
from opsin.tasks import get_task
from opsin.training.machine import keep_memory_warm
from opsin.training.precision import Precision
from opsin.training.step import Stepper
from opsin.types import SizePolicy

TOLERANCE = 0.15
CPU_SECONDS_PER_CASE = 60
STEPS = 2


@dataclass(frozen=True)
class Case:
    """One network: its name in the table, knobs, side of its images in float32 and in bfloat16, batch sizes."""

    title: str
    config: ModelConfig
    sides: tuple[int, int]
    channels: int = 3
    batches: tuple[int, int, int] = (64, 128, 256)


CASES = (
    Case("plain 32,64,128", ModelConfig(), (64, 32)),
    Case("plain, stride", ModelConfig(filters=(64, 128, 256), downsample="stride"), (64, 32)),
    Case("plain, no norm", ModelConfig(filters=(32, 64, 128), batch_norm=False), (64, 32)),
    Case("plain, stride, no norm", ModelConfig(filters=(64, 128), batch_norm=False, downsample="stride"), (64, 48)),
    Case("plain, dense 512", ModelConfig(filters=(32, 64), dense=(512,)), (48, 24)),
    Case("plain 5x5, dropout", ModelConfig(filters=(16, 32), kernel_size=5, conv_dropout=0.2), (64, 32)),
    Case("small", ModelConfig(model="small"), (48, 24)),
    Case("small 16,32", ModelConfig(model="small", filters=(16, 32)), (64, 32)),
    Case("tiny", ModelConfig(model="tiny"), (64, 32), channels=1),
    Case("dense 4096,4096", ModelConfig(model="dense", dense=(4096, 4096)), (32, 32)),
)


def request_of(case: Case, batch: int, precision: str) -> Request:
    """The case as `opsin plan` takes it."""
    side = case.sides[precision == "bfloat16"]
    options = resolve_options(case.config.model, case.config)
    spec = ModelSpec(name=case.config.model, channels=case.channels, height=side, width=side, options=options)
    return Request(spec=spec, batch=batch, precision=precision)


def forecast(request: Request) -> int:
    """Bytes that training is forecast to take."""
    return memory_of(request).training_bytes


def train(request: Request) -> int:
    """Bytes by which this process grew at the peak of `STEPS` steps of training, with the allocator that it has."""
    keep_memory_warm()
    _steps(replace(request, batch=2))  # torch loads its code, and compiles kernels, when they are first used
    ctypes.CDLL(None).malloc_trim(0)  # what they left is not ours
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    _steps(request)
    return _status("VmHWM") - before


def _steps(request: Request) -> None:
    """Train a new network for `STEPS` steps, as our training does."""
    spec = request.spec
    network = build_network(spec, {"logits": request.num_outputs}, seed=0)
    preprocess = Preprocess(
        size=SizePolicy(height=spec.height, width=spec.width),
        color="gray" if spec.channels == 1 else "rgb",
        range=(0.0, 1.0),
        mean=(0.5,) * spec.channels,
        std=(0.25,) * spec.channels,
    )
    stepper = Stepper(
        network,
        task=get_task("classify"),
        preprocess=preprocess,
        config=RunConfig(train=TrainConfig(optimizer=request.optimizer, batch_size=request.batch)),
        precision=Precision(dtype=request.precision, channels_last=True),
        device=torch.device("cpu"),
        num_classes=request.num_outputs,
    )
    following = _batch(request, 0)
    for step in range(STEPS):
        batch, following = following, _batch(request, step + 1)  # the loader gathers one ahead
        stepper.step(batch, step=step, epoch=0)


def in_own_process(work: Callable[[Request], int], request: Request) -> int | None:
    """What `work` gives in a child of this process; None where it takes too long."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_PER_CASE, CPU_SECONDS_PER_CASE))
        torch.set_num_threads(1)
        os.write(writer, str(work(request)).encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 100)
    os.close(reader)
    os.waitpid(child, 0)
    return int(answer) if answer else None


def measured(case: Case, batch: int, precision: str) -> dict[str, Any]:
    """One row of the table."""
    request = request_of(case, batch, precision)
    needed, taken = (in_own_process(work, request) for work in (forecast, train))
    error = None if needed is None or taken is None else needed / taken - 1
    row = {"network": case.title, "input": f"{case.channels}x{request.spec.height}x{request.spec.width}"}
    return row | {"batch": batch, "precision": precision, "forecast": needed, "measured": taken, "error": error}


def main() -> int:
    """Print the table; 1 when a forecast is off by more than the tolerance or a case did not end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one batch size")
    parser.add_argument("--json", action="store_true", help="one JSON document at the end")
    parser.add_argument("--only", default="", help="networks whose title contains this")
    arguments = parser.parse_args()
    rows = []
    print(f"{'network':<24} {'input':>8} {'batch':>5} {'precision':>9} {'forecast':>9} {'measured':>9}  error")
    for case in (case for case in CASES if arguments.only in case.title):
        for precision in ("float32", "bfloat16"):
            sizes = case.batches if precision == "float32" else tuple(size // 4 for size in case.batches)
            for batch in sizes[1:2] if arguments.quick else sizes:
                rows.append(measured(case, batch, precision))
                print(line(rows[-1]), flush=True)
    errors = [abs(row["error"]) for row in rows if row["error"] is not None]
    off = len(rows) - sum(error <= TOLERANCE for error in errors)
    print(f"{len(rows)} cases; largest error {max(errors):.1%}; {off} beyond {TOLERANCE:.0%} or not finished")
    if arguments.json:
        print(json.dumps({"cases": rows, "beyond_tolerance": off}))
    return int(off > 0)


def line(row: dict[str, Any]) -> str:
    """A row as it is printed."""
    sizes = (f"{value / 1e6:>7.1f}MB" if value else f"{'too long':>9}" for value in (row["forecast"], row["measured"]))
    error = "" if row["error"] is None else f"{row['error']:+6.1%}"
    mark = "  <-- beyond 15 %" if row["error"] is not None and abs(row["error"]) > TOLERANCE else ""
    shown = " ".join(sizes)
    return f"{row['network']:<24} {row['input']:>8} {row['batch']:>5} {row['precision']:>9} {shown}  {error}{mark}"


def _batch(request: Request, number: int) -> Batch:
    spec = request.spec
    generator = torch.Generator().manual_seed(number)
    size = (request.batch, spec.channels, spec.height, spec.width)
    return Batch(
        images=torch.randint(0, 256, size, dtype=torch.uint8, generator=generator),
        index=torch.arange(request.batch),
        labels=torch.randint(0, request.num_outputs, (request.batch,), generator=generator),
    )


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    found = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(field))
    return int(found.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
