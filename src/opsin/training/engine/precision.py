"""Precision and memory format, chosen by timing them on this machine with this network.

The choice is kept in a small file per machine, network and batch size, so that the same command gives the same numbers
twice: two equally fast candidates must not alternate.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from opsin.config import TrainConfig
from opsin.errors import OpsinError
from opsin.io.files import read_json, write_json
from opsin.models.wrappers.forward import DTYPES, Precision
from opsin.training.engine.guards import is_out_of_memory
from opsin.training.engine.machine import processor_name
from opsin.types import JsonDict

TIMED_STEPS = 2
CLEARLY_FASTER = 1.15
PROBE_SIDE = 256

StepTimer = Callable[[Precision], Callable[[], object]]
"""Makes, for one candidate, a function that trains one step on a throw-away copy of the network."""


@dataclass(frozen=True)
class Choice:
    """The chosen precision, and the timings behind it."""

    precision: Precision
    timings: tuple[JsonDict, ...]


def choose(config: TrainConfig, device: torch.device, *, timer: StepTimer, batch: int, key: str, cache: Path) -> Choice:
    """The requested precision, or the fastest one here.

    Args:
        config: settings; open ones are timed.
        device: where the network runs.
        timer: makes the step that is timed, for each candidate.
        batch: images in a step.
        key: identifies the network; with the machine it identifies the remembered choice.
        cache: folder of remembered choices.
    """
    memory = cache / f"precision-{_machine_key(device, key, config)}.json"
    if (remembered := _recall(memory)) is not None:
        return remembered
    candidates = _candidates(config, device)
    if len(candidates) == 1:
        return Choice(candidates[0], ())
    timings = [_timed(candidate, timer, batch) for candidate in candidates]
    choice = Choice(_pick(candidates, timings), tuple(timings))
    write_json(memory, {"precision": asdict(choice.precision), "timings": list(choice.timings)})
    return choice


def _candidates(config: TrainConfig, device: torch.device) -> list[Precision]:
    dtypes = [config.precision] if config.precision != "auto" else ["float32", *_fast_half(device)]
    formats = [True, False] if config.channels_last is None else [config.channels_last]
    every = [Precision(dtype=d, channels_last=f, compile=config.compile) for d in dtypes for f in formats]
    # half precision gains nothing from the format that convolutions in half precision have to convert from
    return [p for p in every if p.dtype == "float32" or p.channels_last or len(formats) == 1]


def _fast_half(device: torch.device) -> list[str]:
    """Half precision, where a small matrix product is faster in it: without hardware for it a step takes minutes."""
    seconds = {name: _product_seconds(DTYPES[name], device) for name in ("float32", "bfloat16")}
    return ["bfloat16"] if seconds["bfloat16"] < seconds["float32"] else []


def _product_seconds(dtype: torch.dtype, device: torch.device) -> float:
    a = torch.ones(PROBE_SIDE, PROBE_SIDE, dtype=dtype, device=device)
    float((a @ a)[0, 0])
    began = time.perf_counter()
    float((a @ a)[0, 0])
    return time.perf_counter() - began


def _timed(candidate: Precision, timer: StepTimer, batch: int) -> JsonDict:
    about = {"precision": candidate.dtype, "channels_last": candidate.channels_last, "compile": candidate.compile}
    try:
        step = timer(candidate)
        step()
        seconds = min(_seconds(step) for _ in range(TIMED_STEPS))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # the run itself cuts its batches when memory does not suffice: the timing must not stop it before that
        return about | {"images_per_second": 0.0, "note": "out of memory"}
    return about | {"images_per_second": round(batch / seconds, 1)}


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _pick(candidates: list[Precision], timings: list[JsonDict]) -> Precision:
    """The first candidate, unless a later one is clearly faster."""
    best = 0
    for i in range(1, len(candidates)):
        if timings[i]["images_per_second"] > CLEARLY_FASTER * timings[best]["images_per_second"]:
            best = i
    return candidates[best]


def _machine_key(device: torch.device, key: str, config: TrainConfig) -> str:
    machine = [processor_name(), torch.get_num_threads(), torch.__version__, str(device)]
    asked = [config.precision, config.channels_last, config.compile]
    text = json.dumps([*machine, key, asked])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _recall(path: Path) -> Choice | None:
    try:
        values = read_json(path)
        return Choice(Precision(**values["precision"]), tuple(values["timings"]))
    except (OpsinError, OSError, KeyError, TypeError):  # absent or of another version: measured again
        return None
