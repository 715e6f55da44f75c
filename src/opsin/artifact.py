"""The artefact: a folder with everything needed to use a trained network, and no executable code.

    weights.safetensors   every tensor of the network
    model.json            format, task, classes, architecture, preprocessing
    golden.safetensors    a few input images and the network's outputs for them when it was saved
    answering.safetensors val statistics for abstention (`answering.py`); classification only, not in older ones
    manifest.json         SHA-256 of the files above

Loading refuses a folder of which any byte has changed, and tensors that do not fit the architecture.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from opsin.answering import Answering
from opsin.batches.preprocess import Preprocess
from opsin.errors import ArtifactError, OpsinError
from opsin.io.files import atomic_folder, read_json, sha256_file, write_json
from opsin.io.tensors import read_tensors, write_tensors
from opsin.models.registry import ModelSpec
from opsin.models.wrappers.folding import folded
from opsin.models.wrappers.forward import AS_BATCHED, Forward, to_channels_last
from opsin.tasks import get_task
from opsin.text import is_text
from opsin.types import JsonDict, JsonMapping, TaskName

FORMAT = 2
FORMATS = (1, 2)
"""Format 1 has no `answering.safetensors`; an artefact without it is still written as format 1."""
PARTS = ("weights.safetensors", "model.json", "golden.safetensors")
ANSWERING = "answering.safetensors"
COPY_AGAIN = "copy the artefact again from where it was trained"
GOLDEN_TOLERANCE = 1e-3
Stamp = tuple[int, int, int]
"""Time of change in nanoseconds, size in bytes and inode of a file."""
Stamps = tuple[Stamp | None, ...]
FIELDS = {"format", "task", "classes", "spec", "preprocess", "meta"}
"""Keys of model.json."""
MAX_SIDE = 65_536
"""Limits of the images that a network is built for."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A network with everything that turns an image into a prediction."""

    network: nn.Module
    task: TaskName
    classes: tuple[str, ...]
    spec: ModelSpec
    preprocess: Preprocess
    meta: JsonMapping
    answering: Answering | None = None
    """Statistics of val for coverage and abstention; None where they are unknown."""

    def input(self, images: Tensor) -> Tensor:
        """The network's input: float32, from images uint8 or float32 [B, C, H, W], on their device."""
        return Forward(preprocess=self.preprocess, precision=AS_BATCHED).input(images)


def save(folder: Path, artifact: Artifact, *, golden_images: Tensor) -> None:
    """Write `artifact` as a folder, atomically; an older one in the same place is replaced.

    Args:
        folder: folder to write; its parent exists.
        artifact: the network and its input contract, on any device.
        golden_images: uint8 or float32 [n, C, H, W], a few inputs whose outputs are stored for verification.
    """
    network = artifact.network
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    outputs = answers(artifact, golden_images)
    golden = {"images": golden_images.cpu()} | {f"outputs.{key}": value for key, value in outputs.items()}
    with atomic_folder(folder, replace=True) as partial:
        write_tensors(partial / "weights.safetensors", weights, {})
        write_tensors(partial / "golden.safetensors", golden, {})
        write_json(partial / "model.json", _description(artifact))
        parts: tuple[str, ...] = PARTS
        if artifact.answering is not None:
            write_tensors(partial / ANSWERING, artifact.answering.tensors(), {})
            parts = (*PARTS, ANSWERING)
        write_json(partial / "manifest.json", {part: sha256_file(partial / part) for part in parts})


def load_proved(folder: Path, *, device: torch.device | str = "cpu") -> Artifact:
    """Read an artefact, and check that its outputs here equal those stored when it was saved.

    Raises:
        ArtifactError: as `load`, or the outputs for the golden images differ.
    """
    artifact = load(folder, device=device)
    check_golden(folder, artifact)
    return artifact


def opened(model: Path | Artifact, *, device: torch.device | str = "cpu") -> Artifact:
    """An artefact for prediction: that in a folder, as `load_proved`, made faster without changing what it predicts.

    Norms are folded into convolutions, and weights are in channels last. A loaded artefact is returned as it is.

    Raises:
        ArtifactError: as `load_proved`.
    """
    if isinstance(model, Artifact):
        return model
    artifact = load_proved(model, device=device)
    golden, _ = read_tensors(model / "golden.safetensors")
    network = folded(artifact.network, artifact.input(golden["images"].to(device)))
    return replace(artifact, network=to_channels_last(network))


def load(folder: Path, *, device: torch.device | str = "cpu") -> Artifact:
    """Read an artefact, after checking that no byte of it has changed.

    Raises:
        ArtifactError: a part is missing or altered, the format is newer, or tensors do not fit the architecture.
    """
    parts = verify(folder)
    try:
        description = read_json(folder / "model.json")
        if description.get("format") not in FORMATS:
            got, do = description.get("format"), "install a newer Opsin"
            raise ArtifactError("unknown format of artefact", where=folder, got=got, expected=FORMATS, do=do)
        if unknown := sorted(map(str, description.keys() - FIELDS)):
            got, expected = reprlib.repr(unknown), ", ".join(sorted(FIELDS))
            raise ArtifactError(
                "model.json has unknown fields", where=folder / "model.json", got=got, expected=expected
            )
        spec, classes = _spec(description["spec"], folder), _classes(description["classes"], folder)
        preprocess = Preprocess.from_dict(description["preprocess"])
        weights, _ = read_tensors(folder / "weights.safetensors")
        network = _network(description["task"], spec, len(classes), weights, folder)
        answering = _answering(folder / ANSWERING) if ANSWERING in parts else None
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            "model.json is incomplete", where=folder / "model.json", got=repr(error), do=COPY_AGAIN
        ) from error
    return Artifact(
        network=network.to(device).eval(),
        task=cast("TaskName", description["task"]),
        classes=classes,
        spec=spec,
        preprocess=preprocess,
        meta=description.get("meta", {}),
        answering=answering,
    )


def _answering(path: Path) -> Answering:
    return Answering.from_tensors(read_tensors(path)[0], where=path)


def _spec(values: JsonMapping, folder: Path) -> ModelSpec:
    """The architecture, its numbers in range.

    Raises:
        ArtifactError: a number is out of range.
        TypeError: a field is missing, unknown or not a number.
    """
    spec = ModelSpec(**values)
    for name, most in (("channels", 3), ("height", MAX_SIDE), ("width", MAX_SIDE)):
        value = getattr(spec, name)
        if type(value) is not int or not 1 <= value <= most:
            where, got, expected = folder / "model.json", reprlib.repr(value), f"a whole number, 1 to {most:,}"
            raise ArtifactError(f"`{name}` of the network is out of range", where=where, got=got, expected=expected)
    if not isinstance(spec.options, Mapping):
        raise TypeError("options are not an object")
    return spec


def _classes(values: Any, folder: Path) -> tuple[str, ...]:
    """The class names.

    Raises:
        ArtifactError: they are not a list of distinct strings.
    """
    texts = isinstance(values, list) and values and all(isinstance(name, str) and is_text(name) for name in values)
    if not texts or len(set(values)) < len(values):
        where, got = folder / "model.json", reprlib.repr(values)
        raise ArtifactError(
            "the class names are invalid",
            where=where,
            got=got,
            expected="a list of distinct strings",
            do="copy the artefact again",
        )
    return tuple(values)


def _network(
    task: TaskName, spec: ModelSpec, num_classes: int, weights: Mapping[str, Tensor], folder: Path
) -> nn.Module:
    """The network with its weights. It is first built without memory: an altered artefact could request any amount.

    Raises:
        ArtifactError: the tensors do not fit the architecture.
    """
    with torch.device("meta"):
        _check_fit(get_task(task).build(spec, num_classes), weights, where=folder)
    network = get_task(task).build(spec, num_classes)
    load_weights(network, weights, where=folder)
    return network


def verify(folder: Path) -> tuple[str, ...]:
    """Compare every file of an artefact with the manifest; returns their names.

    Raises:
        ArtifactError: a file is missing, unreadable, unexpected or altered.
    """
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        unfinished = (folder.parent / "config.json").is_file()
        do = (
            "the run has no network yet: continue it with `opsin train DATA --name NAME --resume`"
            if unfinished
            else None
        )
        raise ArtifactError("no artefact here", where=folder, expected=f"{', '.join(PARTS)} and manifest.json", do=do)
    try:
        manifest = read_json(manifest_path)
    except OpsinError as error:
        raise ArtifactError("the manifest is altered", where=manifest_path, got=error.what, do=COPY_AGAIN) from error
    if tuple(manifest) not in (PARTS, (*PARTS, ANSWERING)):
        raise ArtifactError(
            "the manifest is altered", where=manifest_path, got=list(manifest), expected=list(PARTS), do=COPY_AGAIN
        )
    for part, expected in manifest.items():
        path = folder / part
        if not path.is_file():
            raise ArtifactError("a part of the artefact is missing", where=path, do=COPY_AGAIN)
        if (got := sha256_file(path)) != expected:
            raise ArtifactError(
                "a part of the artefact is altered", where=path, got=got, expected=expected, do=COPY_AGAIN
            )
    return tuple(manifest)


def file_stamps(folder: Path) -> Stamps:
    """What changes when a file of an artefact is written again: of each its time, size and inode; None if missing."""
    stamps: list[Stamp | None] = []
    for part in (*PARTS, ANSWERING, "manifest.json"):
        try:
            found = (folder / part).stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(stamps)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, where: object) -> None:
    """Copy `weights` into `network`; names and shapes must agree exactly.

    Raises:
        ArtifactError: listing the tensors that are missing, extra or of another shape.
    """
    _check_fit(network, weights, where=where)
    network.load_state_dict(dict(weights))


def _check_fit(network: nn.Module, weights: Mapping[str, Tensor], *, where: object) -> None:
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - weights.keys())
    extra = sorted(weights.keys() - wanted.keys())
    shared = wanted.keys() & weights.keys()
    misshaped = [
        f"{key}: {tuple(weights[key].shape)} for {tuple(wanted[key].shape)}"
        for key in sorted(shared)
        if weights[key].shape != wanted[key].shape
    ]
    if missing or extra or misshaped:
        got = f"missing {missing[:8]}, extra {extra[:8]}, of another shape {misshaped[:8]}"
        raise ArtifactError("tensors do not fit the architecture", where=where, got=got, do=COPY_AGAIN)


@torch.no_grad()
def answers(artifact: Artifact, images: Tensor) -> dict[str, Tensor]:
    """Raw outputs of the network for uint8 or float32 images [n, C, H, W], on the CPU in float32."""
    network = artifact.network.eval()
    device = next(network.parameters()).device
    outputs: dict[str, Tensor] = network(artifact.input(images.to(device)))
    return {key: value.float().cpu().contiguous() for key, value in outputs.items()}


def check_golden(folder: Path, artifact: Artifact) -> float:
    """Largest relative difference between the stored golden outputs and those of `artifact` on this machine.

    Raises:
        ArtifactError: the outputs differ by more than rounding.
    """
    golden, _ = read_tensors(folder / "golden.safetensors")
    now = answers(artifact, golden["images"])
    stored = {key: golden[f"outputs.{key}"] for key in now}
    worst = max(float((now[k] - v).abs().max() / v.abs().max().clamp_min(1e-6)) for k, v in stored.items())
    if not worst <= GOLDEN_TOLERANCE:
        raise ArtifactError(
            "the network's outputs differ from those stored when it was saved",
            where=folder,
            got=worst,
            do="use the versions in the run's environment.json, or train again",
        )
    return worst


def _description(artifact: Artifact) -> JsonDict:
    spec = artifact.spec
    plain_spec = {
        "name": spec.name,
        "channels": spec.channels,
        "height": spec.height,
        "width": spec.width,
        "options": json.loads(json.dumps(dict(spec.options))),
    }
    return {
        "format": FORMATS[0] if artifact.answering is None else FORMAT,
        "task": artifact.task,
        "classes": list(_strings(artifact.classes)),
        "spec": plain_spec,
        "preprocess": artifact.preprocess.to_dict(),
        "meta": dict(artifact.meta),
    }


def _strings(values: Sequence[str]) -> list[str]:
    return [str(value) for value in values]
