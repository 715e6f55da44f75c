"""Checkpoints: everything that the next step depends on, written atomically.

    checkpoints/step-000420/tensors.safetensors   network.*, best.*, average.*, optimizer.*
    checkpoints/step-000420/state.json            step, schedule, best score, counters
    checkpoints/step-000420/manifest.json         SHA-256 of both
    checkpoints/LAST                              name of the newest one

The newest two are kept: when the newest cannot be read, the one before it is used, with a message. Checkpoints of
earlier versions, which have no manifest but the hash of the tensors in their state, are read too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from opsin.errors import OpsinError, RunError
from opsin.io.files import atomic_folder, read_json, remove_folder, sha256_file, write_atomically, write_json
from opsin.io.tensors import read_tensors, write_tensors
from opsin.progress import Reporter
from opsin.training.engine.shards import divided_like, is_divided
from opsin.training.engine.state import state_of
from opsin.types import JsonDict, JsonMapping

KEPT = 2
PARTS = ("tensors.safetensors", "state.json")
MANIFEST = "manifest.json"
_NAME = re.compile(r"step-[0-9]{6,18}")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and plain values."""

    tensors: Mapping[str, Tensor]
    state: JsonMapping

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix.`, without it."""
        return {key[len(prefix) + 1 :]: value for key, value in self.tensors.items() if key.startswith(f"{prefix}.")}


def joined(parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, object]) -> Checkpoint:
    """A checkpoint of several parts, each under its name."""
    return Checkpoint(
        {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}, state
    )


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Convert errors inside the block to that of a checkpoint that does not fit its run.

    Raises:
        RunError: tensors or values of a checkpoint in `folder` are those of another network or optimizer.
    """
    try:
        yield
    except (RuntimeError, LookupError, TypeError, ValueError) as error:
        what, got = "a checkpoint does not fit this run", str(error).splitlines()[0]
        do = "put back the checkpoints that this run has written"
        raise RunError(what, where=folder, got=got, do=do) from error


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, point LAST at it, and remove all but the newest two.

    Args:
        folder: the run's `checkpoints/`.
        checkpoint: its state has the key "step".
    """
    name = f"step-{checkpoint.state['step']:06d}"
    with atomic_folder(folder / name, replace=True) as partial:
        write_tensors(partial / "tensors.safetensors", _distinct(checkpoint.tensors), {})
        write_json(partial / "state.json", dict(checkpoint.state))
        write_json(partial / MANIFEST, {part: sha256_file(partial / part) for part in PARTS})
    write_atomically(folder / "LAST", name.encode())
    names = _names(folder)
    kept = names[: names.index(name) + 1][-KEPT:]  # newer ones were unreadable, or this one would not exist
    for old in set(names) - set(kept):
        remove_folder(folder / old)


def load(folder: Path, *, report: Reporter, say: Callable[[str], None] | None = None) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None when there is none.

    Args:
        folder: the run's `checkpoints/`.
        report: receives messages on unreadable checkpoints.
        say: likewise, e.g. the run's log.

    Raises:
        RunError: there are checkpoints, and none can be read.
    """
    names = _names(folder)[::-1]
    said = [report.message] if say is None else [report.message, say]
    if (last := _last(folder)) and last not in names:
        for tell in said:
            tell(f"checkpoint {last} is missing; falling back to the one before it")
        if not names:
            names = [last]
    for name in names:
        try:
            return _read(folder / name)
        except OpsinError as error:
            for tell in said:
                tell(f"checkpoint {name} cannot be read ({error.what}); falling back to the one before it")
    if names:
        do = "start the run again under another --name"
        raise RunError("no checkpoint of this run can be read", where=folder, got=names, do=do)
    return None


def optimizer_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], JsonDict]:
    """The optimizer's state as named tensors and plain values."""
    tensors: dict[str, Tensor] = {}
    plain: JsonDict = {}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{number}.{key}"] = value
    return tensors, plain


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, object]) -> None:
    """Restore the state from `optimizer_tensors`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **plain}.items():
        number, name = key.split(".", 1)
        like = parameters[int(number)]
        state.setdefault(int(number), {})[name] = _in_format_of(like, value) if isinstance(value, Tensor) else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _in_format_of(parameter: Tensor, value: Tensor) -> Tensor:
    # fused optimizers walk a parameter and its state side by side in memory: their formats must agree
    if value.shape != parameter.shape or is_divided(parameter):
        return divided_like(parameter, value)
    return torch.empty_like(parameter).copy_(value)


def _read(folder: Path) -> Checkpoint:
    """A checkpoint that agrees with its manifest and with itself.

    Raises:
        OpsinError: it does not.
    """
    state = read_json(folder / "state.json")
    old = isinstance(state, dict) and "tensors_sha256" in state and not (folder / MANIFEST).exists()
    expected = {"tensors.safetensors": state.pop("tensors_sha256")} if old else read_json(folder / MANIFEST)
    if not old and (not isinstance(expected, dict) or sorted(expected) != sorted(PARTS)):
        raise RunError("the manifest is altered", where=folder / MANIFEST, got=expected, expected=list(PARTS))
    for part, digest in expected.items():
        if (got := sha256_file(folder / part)) != digest:
            raise RunError(f"{part} does not match its hash", where=folder / part, got=got, expected=digest)
    step = state_of(state, where=str(folder / "state.json")).step
    if folder.name != f"step-{step:06d}":
        raise RunError("the state belongs to another step", where=folder, got=step, expected=folder.name)
    tensors, _ = read_tensors(folder / "tensors.safetensors")
    return Checkpoint(tensors, state)


def _last(folder: Path) -> str:
    """The recorded name of the newest checkpoint; empty if unknown."""
    path = folder / "LAST"
    text = path.read_bytes()[:100].decode(errors="replace").strip() if path.is_file() else ""
    return text if _NAME.fullmatch(text) else ""


def _names(folder: Path) -> list[str]:
    """Checkpoints, oldest first: by number, as a million steps have a digit more."""
    names = [path.name for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(names, key=lambda name: int(name.removeprefix("step-")))


def _distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory and tensors that are not contiguous
    return {
        key: value.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }
