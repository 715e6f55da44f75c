"""Checkpoints: everything that the next step depends on, written whole or not at all.

    checkpoints/step-000420/tensors.safetensors   network.*, best.*, average.*, optimizer.*
    checkpoints/step-000420/state.json            step, schedule, best score, counters, SHA-256 of the tensors
    checkpoints/LAST                              name of the newest one

The newest two are kept: when the newest cannot be read, the one before it is used, and that is said.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from opsin.errors import OpsinError, RunError
from opsin.io.files import atomic_folder, read_json, sha256_file, write_atomically, write_json, writing
from opsin.io.tensors import read_tensors, write_tensors
from opsin.progress import Reporter

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and plain values."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix.`, without it."""
        return {key[len(prefix) + 1 :]: value for key, value in self.tensors.items() if key.startswith(f"{prefix}.")}


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, point LAST at it, and remove all but the newest two.

    Args:
        folder: the run's `checkpoints/`.
        checkpoint: its state has the key "step".
    """
    name = f"step-{checkpoint.state['step']:06d}"
    with atomic_folder(folder / name, replace=True) as partial:
        write_tensors(partial / "tensors.safetensors", _distinct(checkpoint.tensors), {})
        digest = sha256_file(partial / "tensors.safetensors")
        write_json(partial / "state.json", {**checkpoint.state, "tensors_sha256": digest})
    write_atomically(folder / "LAST", name.encode())
    for old in _names(folder)[:-KEPT]:
        with writing(folder / old):
            shutil.rmtree(folder / old)


def load(folder: Path, *, report: Reporter) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None when there is none.

    Raises:
        RunError: there are checkpoints, and none can be read.
    """
    names = _names(folder)[::-1]
    for name in names:
        try:
            return _read(folder / name)
        except OpsinError as error:
            report.message(f"checkpoint {name} cannot be read ({error.what}); falling back to the one before it")
    if names:
        do = "start the run anew under another --name"
        raise RunError("no checkpoint of this run can be read", where=folder, got=names, do=do)
    return None


def optimizer_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state as named tensors and plain values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{number}.{key}"] = value
    return tensors, plain


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **plain}.items():
        number, name = key.split(".", 1)
        like = parameters[int(number)]
        state.setdefault(int(number), {})[name] = _in_format_of(like, value) if isinstance(value, Tensor) else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _in_format_of(parameter: Tensor, value: Tensor) -> Tensor:
    # fused optimizers walk a parameter and its state side by side in memory: their formats must agree
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _read(folder: Path) -> Checkpoint:
    state = read_json(folder / "state.json")
    digest = sha256_file(folder / "tensors.safetensors")
    if digest != state.get("tensors_sha256"):
        raise RunError(
            "tensors do not match their hash", where=folder, got=digest, expected=state.get("tensors_sha256")
        )
    tensors, _ = read_tensors(folder / "tensors.safetensors")
    return Checkpoint(tensors, state)


def _names(folder: Path) -> list[str]:
    """Checkpoints, oldest first: by number, as a million steps have a digit more."""
    numbered = {path.name.removeprefix("step-"): path.name for path in folder.glob("step-??????*")}
    numbers = sorted((number for number in numbered if number.isdecimal()), key=int)
    return [numbered[number] for number in numbers if (folder / numbered[number] / "state.json").is_file()]


def _distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory and tensors that are not contiguous
    return {
        key: value.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }
