"""Where a run's weights come from: a file in some library's naming, a package, a download, or a run of ours.

Whatever it is, it brings what its weights expect of their input, and that is enforced: weights that were trained on
[-1, 1] and are fed [0, 1] still train, to a score that nobody questions.
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


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Weights to start from.

    `model`: the architecture that they fit. `options`: of that architecture, which go before the settings.
    `preprocess`: what they expect of their input, at the size that they were trained at. `tensors`: of the backbone,
    by our names; `others`: of the layers above and below it, where it was a run of ours. `classes`, `task`: that its
    head was trained for. `record`: what the run keeps of all this.
    """

    model: str
    options: Mapping[str, Any]
    preprocess: Preprocess
    pretrained: Pretrained | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    task: str = ""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def load(self, network: nn.Module, *, task: str, classes: Sequence[str]) -> tuple[str, ...]:
        """Put the weights into a new `network`; returns what was done, in words.

        The head of a run is taken along where it has the same task and classes.

        Raises:
            ConfigError: tensors that do not fit the network.
        """
        backbone = getattr(network, "backbone", None)
        if not isinstance(backbone, Backbone):
            raise ConfigError("this network takes no pretrained weights", got=type(network).__name__)
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
        return ("the head of that run was taken along",) if same_head else ("the head is new",)


def find_origin(config: RunConfig, *, out: Path | str = RUNS_FOLDER) -> Origin | None:
    """What `config` names as its weights, read; None where it names none.

    Raises:
        RefusedError: there are no such weights, they do not fit the network, or their input is not known.
    """
    named = config.finetune.weights
    if named is None:
        return None
    if (run := _run_of(named, out)) is not None:
        if config.finetune.weights_range is not None:
            got = config.finetune.weights_range
            raise ConfigError("a run knows what its weights expect", where="weights_range", got=got, do="leave it out")
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
    """`settings` with the place of their weights from the root of the file system, so that it holds in any folder."""
    named = settings.get("weights")
    if named is None:
        return dict(settings)
    run = _run_of(str(named), out)
    place = run.path if run is not None else Path(named)
    return {**settings, "weights": str(place.absolute()) if place.exists() else str(named)}


def check_same_weights(run: Run, origin: Origin | None) -> None:
    """Refuse to go on with a run whose pretrained weights are not those that it was begun with.

    Raises:
        RunError: the file has changed.
    """
    path = run.path / "weights.json"
    if origin is None or not path.is_file():
        return
    expected, got = read_json(path).get("sha256"), origin.record.get("sha256")
    if got != expected:
        do = "put the file back as it was, or start a new run"
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
            "the weights do not fit the network at this size or with these knobs",
            where=where,
            got=f"missing {missing[:8]}, extra {extra[:8]}, misshaped {sorted(misshaped)[:8]}",
            do="leave out the knobs of the network; networks with dense layers on maps keep their --input-size",
        )
