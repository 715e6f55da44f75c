"""Peak memory of training: what `opsin plan` forecasts against what the process really takes.

Ten networks, three batch sizes, float32 and bfloat16; three networks as they are by default, in float32 alone; U-Nets
and networks with a class and a box head, one of them frozen below its heads.
Each case trains two steps of our own `Stepper` in a process of its own, on one thread; measured is the growth of its
resident memory at the peak (VmHWM) after a first step on two images, so what Python and torch take by themselves is
left out. Freed memory is given back (`--no-keep-memory`): what lives is forecast, and the process holds nothing else.

The networks are narrow, since convolutions in bfloat16 take minutes on processors without the arithmetic for it;
batches are such that all cases need 50 MB or more, which is far above what is left to chance.

    python benchmarks/memory.py            all cases; exit code 1 when one is off by more than 15 %
    python benchmarks/memory.py --quick    one batch size
    python benchmarks/memory.py --warm     training keeps freed memory, as by default: for information, exit code 0

Linux only: the peak is read from /proc.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from opsin.batches.batch import Batch
from opsin.batches.preprocess import Preprocess
from opsin.config import ModelConfig, RunConfig, TrainConfig
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec, resolve_options
from opsin.models.wrappers.forward import Precision
from opsin.planning.memory import memory_of
from opsin.planning.request import Request, batch_of, build, task_settings
from opsin.training.engine.machine import set_allocator
from opsin.training.engine.step import Stepper
from opsin.types import SizePolicy, TaskName

TOLERANCE = 0.15
TRAINING = TrainConfig(mask_loss="cross-entropy-dice")
CPU_SECONDS_PER_CASE = 120
STEPS = 2


@dataclass(frozen=True)
class Case:
    """One network: its name in the table, knobs, and batch sizes by precision; no sizes leave a precision out.

    `frozen`: a pretrained network of which the heads alone are trained, on images.
    """

    title: str
    config: ModelConfig
    float32: tuple[int, ...]
    bfloat16: tuple[int, ...] = ()
    channels: int = 3
    side: int = 48
    task: TaskName = "classify"
    frozen: bool = False


CASES = (
    Case("plain 8,16,32", ModelConfig(filters=(8, 16, 32)), (128, 256, 512), (176, 256, 352)),
    Case("plain, stride", ModelConfig(filters=(16, 32), downsample="stride"), (256, 512, 1024), (352, 480, 704)),
    Case("plain, no norm", ModelConfig(filters=(8, 16, 32), batch_norm=False), (160, 256, 512), (208, 288, 416)),
    Case(
        "plain, stride, no norm",
        ModelConfig(filters=(8, 16), batch_norm=False, downsample="stride"),
        (512, 768, 1024),
        (512, 768, 1024),
    ),
    Case("plain, dense 256", ModelConfig(filters=(8, 16), dense=(256,)), (128, 256, 512), (160, 224, 320)),
    Case(
        "plain 5x5, dropout",
        ModelConfig(filters=(8, 16), kernel_size=5, conv_dropout=0.2),
        (128, 256, 512),
        (128, 192, 256),
    ),
    Case("small 8,16", ModelConfig(model="small", filters=(8, 16)), (96, 128, 256), (56, 72, 96)),
    Case("small 8,16,32", ModelConfig(model="small", filters=(8, 16, 32)), (96, 128, 256), (56, 72, 96)),
    Case("tiny 8,16", ModelConfig(model="tiny", filters=(8, 16)), (256, 512, 1024), (288, 416, 576), channels=1),
    Case("dense 2048,2048", ModelConfig(model="dense", dense=(2048, 2048)), (32, 128, 512), (8, 16, 32), side=32),
    Case("plain, default", ModelConfig(), (64, 128, 256)),
    Case("small, default", ModelConfig(model="small"), (64, 128, 256)),
    Case("tiny, default", ModelConfig(model="tiny"), (128, 256, 512), channels=1),
    Case("unet, masks", ModelConfig(model="unet"), (8, 16, 32), side=96, task="segment"),
    Case("unet 8,16, masks", ModelConfig(model="unet", filters=(8, 16)), (16, 32, 64), (16, 32), 3, 96, "segment"),
    Case("mobilenet_v2, masks", ModelConfig(model="mobilenet_v2"), (8, 16, 32), side=96, task="segment"),
    Case("small, boxes", ModelConfig(model="small"), (64, 128), task="localize"),
    Case("plain 8,16, boxes", ModelConfig(filters=(8, 16)), (128, 256), (128, 256), task="localize"),
    Case("mobilenet_v2, boxes", ModelConfig(model="mobilenet_v2"), (16, 32), side=96, task="localize"),
    Case("mobilenet_v2, frozen", ModelConfig(model="mobilenet_v2"), (64, 128), (), 3, 96, "localize", frozen=True),
)


def request_of(case: Case, batch: int, precision: str, *, keep_memory: bool) -> Request:
    """The case as `opsin plan` takes it."""
    options = resolve_options(case.config.model, case.config, decoder=case.task == "segment")
    spec = ModelSpec(name=case.config.model, channels=case.channels, height=case.side, width=case.side, options=options)
    task = task_settings(case.task, TRAINING)
    frozen = {"sections": 0, "pinned": True} if case.frozen else {}
    return Request(spec=spec, task=task, batch=batch, precision=precision, keep_memory=keep_memory, **frozen)


def forecast(request: Request) -> int:
    """Bytes that training is forecast to take."""
    return memory_of(request).training_bytes


def train(request: Request) -> int:
    """Bytes by which this process grew at the peak of `STEPS` steps of training."""
    set_allocator(keep_memory=False)
    _steps(replace(request, batch=2))  # torch loads its code, and compiles kernels, when they are first used
    gc.collect()
    set_allocator(keep_memory=False)  # trims the heap: what those steps left on it is not ours
    set_allocator(keep_memory=request.keep_memory)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    _steps(request)
    return _status("VmHWM") - before


def _steps(request: Request) -> None:
    """Train a new network for `STEPS` steps, as our training does."""
    spec = request.spec
    with seeded(0):
        network = build(request)
    preprocess = Preprocess(
        size=SizePolicy(height=spec.height, width=spec.width),
        color="gray" if spec.channels == 1 else "rgb",
        range=(0.0, 1.0),
        mean=(0.5,) * spec.channels,
        std=(0.25,) * spec.channels,
    )
    stepper = Stepper(
        network,
        task=request.task,
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


def start(work: Callable[[Request], int], request: Request) -> tuple[int, int]:
    """Begin `work` in a child of this process: its id, and the pipe on which it answers.

    To be called on the main thread, where training runs too: elsewhere glibc has another heap for each thread.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_PER_CASE, CPU_SECONDS_PER_CASE))
            torch.set_num_threads(1)
            os.write(writer, str(work(request)).encode())
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writer)
    return child, reader


def answer(child: int, reader: int) -> int | None:
    """What a child found; None where it failed or took too long."""
    text = os.read(reader, 100)
    os.close(reader)
    os.waitpid(child, 0)
    return int(text) if text else None


def measured(case: Case, batch: int, precision: str, *, keep_memory: bool) -> dict[str, Any]:
    """One row of the table."""
    request = request_of(case, batch, precision, keep_memory=keep_memory)
    children = [start(work, request) for work in (forecast, train)]  # side by side
    needed, taken = (answer(*child) for child in children)
    error = None if needed is None or taken is None else needed / taken - 1
    row = {"network": case.title, "input": f"{case.channels}x{request.spec.height}x{request.spec.width}"}
    return row | {"batch": batch, "precision": precision, "forecast": needed, "measured": taken, "error": error}


def measured_all(*, only: str, quick: bool, keep_memory: bool) -> list[dict[str, Any]]:
    """The table, printed row by row."""
    cases = [
        (case, batch, precision)
        for case in CASES
        if only in case.title
        for precision, sizes in (("float32", case.float32), ("bfloat16", case.bfloat16))
        for batch in (sizes[:1] if quick else sizes)
    ]
    rows = []
    for case, batch, precision in cases:
        rows.append(measured(case, batch, precision, keep_memory=keep_memory))
        print(line(rows[-1]), flush=True)
    return rows


def main() -> int:
    """Print the table; 1 when a forecast is off by more than the tolerance or a case did not end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one batch size")
    parser.add_argument("--warm", action="store_true", help="training keeps freed memory; for information")
    parser.add_argument("--json", action="store_true", help="one JSON document at the end")
    parser.add_argument("--only", default="", help="networks whose title contains this")
    arguments = parser.parse_args()
    print(f"{'network':<24} {'input':>8} {'batch':>5} {'precision':>9} {'forecast':>9} {'measured':>9}  error")
    rows = measured_all(only=arguments.only, quick=arguments.quick, keep_memory=arguments.warm)
    for precision in ("float32", "bfloat16"):
        print(summary(precision, [row["error"] for row in rows if row["precision"] == precision]))
    off = sum(row["error"] is None or abs(row["error"]) > TOLERANCE for row in rows)
    print(f"{len(rows)} cases; {off} beyond {TOLERANCE:.0%} or not finished")
    if arguments.json:
        print(json.dumps({"keep_memory": arguments.warm, "cases": rows, "beyond_tolerance": off}))
    return int(off > 0 and not arguments.warm)


def summary(precision: str, errors: Sequence[float | None]) -> str:
    """Worst and median of the deviations of one precision."""
    sizes = [abs(error) for error in errors if error is not None]
    if not sizes:
        return f"{precision}: no case"
    return f"{precision}: {len(sizes)} cases, worst {max(sizes):.1%}, median {statistics.median(sizes):.1%}"


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
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    batch = batch_of(request, images)
    masks = batch.masks
    if masks is not None:
        masks = torch.randint(0, request.num_outputs, masks.shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, request.num_outputs, (request.batch,), generator=generator)
    return replace(batch, index=torch.arange(request.batch), labels=labels, masks=masks)


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    found = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(field))
    return int(found.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
