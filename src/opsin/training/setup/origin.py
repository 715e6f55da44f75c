"""The origin of a run's weights: a file in some library's naming, a package, a download, or another run.

Each origin has an input contract, which is enforced: weights trained on [-1, 1] and fed [0, 1] still train, to a
plausible but lower score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from opsin.artifact import load_proved
from opsin.batches.preprocess import Preprocess
from opsin.config import RunConfig
from opsin.errors import ConfigError, RunError
from opsin.io.files import read_json, sha256_file
from opsin.models.parts.backbone import Backbone
from opsin.models.registry import get_entry
from opsin.models.weights.pretrained import Pretrained, find_pretrained, load_pretrained
from opsin.runs import RUNS_FOLDER, Run
from opsin.types import JsonMapping


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Pretrained weights to start from.

    `model`: the architecture that they fit. `options`: options of that architecture, which override the settings.
    `preprocess`: the input contract, at the size they were trained at. `tensors`: tensors of the backbone, by
    Opsin's names; `others`: tensors of the layers above and below it, for an Opsin run. `classes`, `task`: those of
    its head. `record`: what the run stores about the origin.
    """

    model: str
    options: Mapping[str, Any]
    preprocess: Preprocess
    pretrained: Pretrained | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    task: str = ""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    record: JsonMapping = field(default_factory=dict)

    def load(self, network: nn.Module, *, task: str, classes: Sequence[str]) -> tuple[str, ...]:
        """Put the weights into a new `network`; returns what was done, as text.

        The head of a run is loaded too if it has the same task and classes.

        Raises:
            ConfigError: the tensors do not fit the network.
        """
        backbone = getattr(network, "backbone", None)
        if not isinstance(backbone, Backbone):
            raise ConfigError(
                "this network has no pretrained weights", got=type(network).__name__, do="leave --weights out"
            )
        if self.pretrained is not None:
            return load_pretrained(backbone, self.pretrained)
        whole = self.task == task and self.classes == tuple(classes)
        wanted = network.state_dict()
        taken = {k: v for k, v in self.tensors.items() if whole or k.startswith(("backbone.", "normalize."))}
        same_head = all(k in wanted and wanted[k].shape == v.shape for k, v in taken.items()) and whole
        if whole and not same_head:
            taken = {k: v for k, v in taken.items() if k.startswith(("backbone.", "normalize."))}
        _check_fits(taken, wanted, self.record.get("file"))
        network.load_state_dict({**wanted, **taken})
        return ("the head of that run was loaded too",) if same_head else ("the head is new",)


def find_origin(config: RunConfig, *, out: Path | str = RUNS_FOLDER) -> Origin | None:
    """The weights named by `config`; None where it names none.

    Raises:
        RefusedError: no such weights, they do not fit the network, or their input is unknown.
    """
    named = config.finetune.weights
    if named is None:
        return None
    if (run := _run_of(named, out)) is not None:
        if config.finetune.weights_range is not None:
            got = config.finetune.weights_range
            raise ConfigError(
                "the input range of a run is fixed by its training", where="weights_range", got=got, do="leave it out"
            )
        return _from_run(run)
    entry = get_entry(config.model.model)
    pretrained = find_pretrained(named, entry.name, input_range=config.finetune.weights_range)
    known = {f.name for f in fields(entry.options_type)}
    if not known >= set(pretrained.options):
        raise ConfigError(
            "these weights are of another network",
            where=pretrained.file,
            got=entry.name,
            expected=f"a network with {', '.join(sorted(set(pretrained.options) - known))} among its options",
            do="give --model the network that the weights were trained as",
        )
    contract = pretrained.contract
    return Origin(
        model=config.model.model,
        options=dict(pretrained.options),
        preprocess=contract.preprocess(),
        pretrained=pretrained,
        notes=pretrained.notes,
        record={
            "file": pretrained.file,
            "sha256": pretrained.sha256,
            "naming": pretrained.naming,
            "input": contract.to_dict(),
        },
    )


def absolute(settings: Mapping[str, Any], out: Path | str = RUNS_FOLDER) -> dict[str, Any]:
    """`settings` with the absolute path of their weights, valid in any working folder."""
    named = settings.get("weights")
    if named is None:
        return dict(settings)
    run = _run_of(str(named), out)
    place = run.path if run is not None else Path(named)
    return {**settings, "weights": str(place.absolute()) if place.exists() else str(named)}


def check_same_weights(run: Run, origin: Origin | None) -> None:
    """Refuse to resume a run whose pretrained weights have changed.

    Raises:
        RunError: the file has changed.
    """
    path = run.path / "weights.json"
    if origin is None or not path.is_file():
        return
    expected, got = read_json(path).get("sha256"), origin.record.get("sha256")
    if got != expected:
        do = "restore the file, or start a new run"
        raise RunError(
            "the pretrained weights have changed", where=origin.record["file"], got=got, expected=expected, do=do
        )


def _run_of(named: str, out: Path | str) -> Run | None:
    places = (Path(named), Path(out) / named)
    return next((Run(place) for place in places if (place / "config.json").is_file()), None)


def _from_run(run: Run) -> Origin:
    artifact = load_proved(run.model_folder)
    options = dict(artifact.spec.options)
    file = run.model_folder / "weights.safetensors"
    return Origin(
        model=artifact.spec.name,
        options=options,
        preprocess=artifact.preprocess,
        tensors=dict(artifact.network.state_dict()),
        task=artifact.task,
        classes=artifact.classes,
        notes=(f"weights of run {run.name}: {artifact.spec.name}, {artifact.task}",),
        record={
            "file": str(file),
            "sha256": sha256_file(file),
            "naming": "opsin",
            "input": artifact.preprocess.to_dict(),
        },
    )


def _check_fits(taken: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: object) -> None:
    below = ("backbone.", "normalize.")
    missing = [key for key in wanted if key.startswith(below) and key not in taken]
    extra = [key for key in taken if key not in wanted]
    misshaped = [
        f"{key}: {tuple(taken[key].shape)} for {tuple(wanted[key].shape)}"
        for key in taken.keys() & wanted.keys()
        if taken[key].shape != wanted[key].shape
    ]
    if missing or extra or misshaped:
        raise ConfigError(
            "the weights do not fit the network at this size or with these options",
            where=where,
            got=f"missing {missing[:8]}, extra {extra[:8]}, of another shape {sorted(misshaped)[:8]}",
            do="leave out the options of the network; networks with dense layers on maps keep their --input-size",
        )
