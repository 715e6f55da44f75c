"""Weights of published networks, from files in other packages' names and layouts, into ours.

Every tensor is accounted for: one that is missing, not known or of another shape is refused with the list. A file whose
preprocessing is not known is refused, as a network with the wrong input range is wrong in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opsin.errors import ConfigError, TensorFileError
from opsin.io.files import PathLike, read_json, sha256_file
from opsin.io.gate import first_bytes, printable
from opsin.io.hdf5 import HDF5_MAGIC, read_keras_layers
from opsin.io.tensors import read_tensors, read_torch_weights
from opsin.models import published
from opsin.models.backbone import Backbone
from opsin.models.contracts import INPUT_RANGES, InputContract, named_contract
from opsin.models.keras_weights import from_keras
from opsin.models.naming import BY_NAMING, HEAD, UNUSED, NamingName, namings
from opsin.models.network import Network
from opsin.models.registry import ENTRIES, ModelSpec, build_backbone, build_network, get_entry

CONTRACT_KEY = "opsin.input"
"""Where the header of a safetensors file may hold an `InputContract`, as JSON."""
STEP_COUNTER = "num_batches_tracked"
"""A tensor of batch norm that only a learning rate of its own would use; files have it or not."""
MAX_LISTED = 6


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights in our names, with all that is needed to use them rightly.

    `tensors` belong to the backbone, `head` (weight [K, F], bias [K]) to the head of the published classes. `options`
    go into `ModelSpec.options` before the network is built: padding, epsilon. `notes` say what was recognized.
    """

    model: str
    tensors: Mapping[str, Tensor]
    head: Mapping[str, Tensor] | None
    naming: NamingName
    contract: InputContract
    options: Mapping[str, Any]
    notes: tuple[str, ...]
    file: str
    sha256: str

    @property
    def spec(self) -> ModelSpec:
        """The network that the weights were trained as, at the size that they expect."""
        size = self.contract
        return ModelSpec(name=self.model, channels=3, height=size.height, width=size.width, options=dict(self.options))


def find_pretrained(weights: str, model: str, *, input_range: str | None = None) -> Pretrained:
    """Weights for `model` by what the user asked for.

    Args:
        weights: a file, `package` (an installed package), or `timm` or `torchvision`, which download.
        model: name of the network.
        input_range: one of `INPUT_RANGES`; it overrules what the weights say of themselves.

    Raises:
        ConfigError: no such weights for this network, or their preprocessing is not known.
        TensorFileError: the file is none of weights, or does not fit the network.
        DownloadError: the weights cannot be had.
    """
    if weights == "package":
        path = published.package_weights(model)
        if path is None:
            raise published.no_weights(model, weights)
        return read_pretrained(path, model, input_range=input_range)
    if weights in ("timm", "torchvision"):
        load = published.from_timm if weights == "timm" else published.from_torchvision
        tensors, contract, address = load(model)
        contract = named_contract(input_range) if input_range else contract
        return _converted(tensors, model, contract, file=address, sha256="", options={}, notes=())
    return read_pretrained(weights, model, input_range=input_range)


def read_pretrained(path: PathLike, model: str, *, input_range: str | None = None) -> Pretrained:
    """Weights for `model` from a file: safetensors (also an artefact's), torch (.pth), or Keras' HDF5 (.h5).

    Raises:
        TensorFileError: another format, or tensors that do not fit the network.
        ConfigError: the preprocessing that the weights need is not known, or no weights are known for the network.
    """
    get_entry(model)
    sha256 = sha256_file(path)
    known = published.recognize(path, sha256, model)
    keras = first_bytes(path, TensorFileError).startswith(HDF5_MAGIC)
    tensors, metadata = ({}, {}) if keras else _read(path)
    notes = (f"recognized as {known.title}",) if known else ()
    contract = _contract(path, metadata, known, input_range)
    options = dict(known.options) if known else {}
    if contract is None:
        raise _unknown_input(path, published.KERAS_CONTRACTS.get(model) if keras else None)
    if keras:
        named, needed = from_keras(read_keras_layers(path), model, printable(path))
        return _finished(
            "keras", named, model, contract, file=printable(path), sha256=sha256, options=needed | options, notes=notes
        )
    return _converted(tensors, model, contract, file=printable(path), sha256=sha256, options=options, notes=notes)


def load_pretrained(backbone: Backbone, pretrained: Pretrained) -> tuple[str, ...]:
    """Set the weights of a backbone that was built with `pretrained.options`; returns notes on what was left out.

    Raises:
        TensorFileError: a tensor is missing or has another shape.
    """
    own = backbone.state_dict()
    given = {name: tensor for name, tensor in pretrained.tensors.items() if name in own}
    needed = {name: tensor for name, tensor in own.items() if not name.endswith(STEP_COUNTER)}
    _check(given, needed, pretrained.file, what=f"the weights do not fit this `{pretrained.model}`")
    backbone.load_state_dict(given, strict=False)
    left_out = sorted(set(pretrained.tensors) - set(own))
    if not left_out:
        return ()
    return (f"{len(left_out)} tensors of layers that this network lacks are left out: {_listed(left_out)}",)


def load_head(head: nn.Module, pretrained: Pretrained) -> None:
    """Set the head of the published classes.

    Raises:
        TensorFileError: the weights have no head, or one of another shape.
    """
    if pretrained.head is None:
        do = "take the file with the top layers, or train a head"
        raise TensorFileError("the weights have no head", where=pretrained.file, do=do)
    _check(pretrained.head, head.state_dict(), pretrained.file, what="the head does not fit")
    head.load_state_dict(dict(pretrained.head))


def pretrained_network(pretrained: Pretrained) -> Network:
    """The whole published network, with its head, for inference.

    Raises:
        TensorFileError: the weights have no head.
    """
    if pretrained.head is None:
        raise TensorFileError("the weights have no head", where=pretrained.file, do="take the file with the top layers")
    spec = pretrained.spec
    outputs = {"logits": len(pretrained.head["weight"])}
    if pretrained.model in ENTRIES:  # all their numbers come from the weights: random ones would take seconds
        with torch.device("meta"):
            network = build_network(spec, outputs)
        network = network.to_empty(device="cpu")
        for name, counter in network.named_buffers():
            if name.endswith(STEP_COUNTER):
                counter.zero_()
    else:
        network = build_network(spec, outputs, seed=0)
    load_pretrained(network.backbone, pretrained)
    load_head(network.heads["logits"], pretrained)
    return network.eval()


def _read(path: PathLike) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file, by its first bytes."""
    start = first_bytes(path, TensorFileError)
    if start.startswith((b"PK", b"\x80")) and start[8:9] != b"{":
        return read_torch_weights(path), {}
    return read_tensors(path)


def _contract(
    path: PathLike, metadata: Mapping[str, str], known: published.KnownFile | None, input_range: str | None
) -> InputContract | None:
    """What the user says, else what the file says, else what is known of it, else its artefact's contract."""
    if input_range is not None:
        return named_contract(input_range)
    if CONTRACT_KEY in metadata:
        try:
            return InputContract.from_dict(json.loads(metadata[CONTRACT_KEY]), where=printable(path))
        except (json.JSONDecodeError, AttributeError, TypeError) as error:
            raise TensorFileError("the input contract is not readable", where=printable(path), got=error) from error
    if known is not None:
        return known.contract
    return _artifact_contract(Path(path).parent / "model.json")


def _artifact_contract(path: Path) -> InputContract | None:
    """The contract of an artefact of ours that the file is part of."""
    if not path.is_file():
        return None
    description = read_json(path)
    found = description.get("preprocess") if isinstance(description, dict) else None
    if not isinstance(found, dict) or found.get("learned") or found.get("color") == "gray":
        return None
    size = found.get("size", {})
    plain = {key: found[key] for key in ("range", "mean", "std", "color") if key in found}
    return InputContract.from_dict(plain | size, where=printable(path))


def _unknown_input(path: PathLike, usual: str | None) -> ConfigError:
    hint = f"; Keras feeds this network `{usual}`" if usual else ""
    return ConfigError(
        "the preprocessing that these weights need is not known",
        where=printable(path),
        expected=f"a file that is known by its hash, or metadata `{CONTRACT_KEY}`",
        do="say how their network was fed: --weights-range "
        + "; ".join(f"{name} ({contract})" for name, contract in INPUT_RANGES.items())
        + hint,
    )


def _converted(
    tensors: Mapping[str, Tensor],
    model: str,
    contract: InputContract,
    *,
    file: str,
    sha256: str,
    options: dict[str, Any],
    notes: tuple[str, ...],
) -> Pretrained:
    """The tensors under our names, checked against the network."""
    naming, renamed = _renamed(tensors, model, file)
    return _finished(naming, renamed, model, contract, file=file, sha256=sha256, options=options, notes=notes)


def _finished(
    naming: NamingName,
    renamed: dict[str, Tensor],
    model: str,
    contract: InputContract,
    *,
    file: str,
    sha256: str,
    options: dict[str, Any],
    notes: tuple[str, ...],
) -> Pretrained:
    """Tensors under our names, apart from those of training and of the head, checked against the network."""
    options = BY_NAMING.get((model, naming), {}) | options
    unused = [name for name in renamed if name.startswith(UNUSED.get(model, ("unused.",)))]
    renamed = {name: tensor for name, tensor in renamed.items() if name not in unused}
    if unused:
        notes = (*notes, f"{len(unused)} tensors of further classifiers are left out")
    head = {name.removeprefix(f"{HEAD}."): renamed.pop(name) for name in list(renamed) if name.startswith(f"{HEAD}.")}
    spec = ModelSpec(name=model, channels=3, height=contract.height, width=contract.width, options=options)
    with torch.device("meta"):
        needed = build_backbone(spec).state_dict()
    needed = {name: tensor for name, tensor in needed.items() if not name.endswith(STEP_COUNTER)}
    for name, tensor in renamed.items():
        if name in needed and needed[name].ndim == 2 and tensor.ndim == 4:  # timm's VGG: dense layers as convolutions
            renamed[name] = tensor.flatten(1)
    _check(renamed, needed, file, what=f"the weights do not fit network `{model}`")
    notes = (*notes, f"{naming} names", f"input {contract}")
    return Pretrained(
        model=model,
        tensors=renamed,
        head=head or None,
        naming=naming,
        contract=contract,
        options=options,
        notes=notes,
        file=file,
        sha256=sha256,
    )


def _renamed(tensors: Mapping[str, Tensor], model: str, file: str) -> tuple[NamingName, dict[str, Tensor]]:
    """The naming that knows most of the tensors, and all tensors under our names; unknown ones keep theirs."""
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(STEP_COUNTER)}
    if any(name.startswith("backbone.") for name in tensors):
        mine = {
            name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if name.startswith("backbone.")
        }
        return "opsin", mine | {
            f"{HEAD}.{name.rpartition('.')[2]}": tensor
            for name, tensor in tensors.items()
            if name.startswith("heads.logits.")
        }
    if model not in ENTRIES:
        return "timm", _of_timm(tensors, model)
    known = {naming: {theirs: ours for ours, theirs in names.items()} for naming, names in namings(model).items()}
    if not known:
        raise ConfigError(f"no published weights are known for network `{model}`", where=printable(file), got=model)
    layers = {name.rpartition(".")[0] for name in tensors}
    naming = max(known, key=lambda name: len(layers & set(known[name])))
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        renamed[f"{known[naming].get(layer, layer)}.{kind}"] = tensor
    return naming, renamed


def _of_timm(tensors: Mapping[str, Tensor], model: str) -> dict[str, Tensor]:
    """Timm's own names for a network of timm: all under `model`, but for the classifier.

    A classifier of several layers is no head of ours: it is put under `unused`.
    """
    from opsin.models.timm_networks import timm_facts, timm_name

    classifier = timm_facts(timm_name(model) or model)["classifier"]
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer == classifier:
            renamed[f"{HEAD}.{kind}"] = tensor.flatten(1) if tensor.ndim == 4 else tensor
        elif not isinstance(classifier, str) and layer.partition(".")[0] in {c.partition(".")[0] for c in classifier}:
            renamed[f"unused.{name}"] = tensor
        else:
            renamed[f"model.{name}"] = tensor
    return renamed


def _check(given: Mapping[str, Tensor], needed: Mapping[str, Tensor], file: str, *, what: str) -> None:
    """Refuse tensors that are missing, not known, or of another shape."""
    missing = sorted(set(needed) - set(given))
    extra = sorted(set(given) - set(needed))
    misshaped = [
        f"{name} {list(given[name].shape)} for {list(needed[name].shape)}"
        for name in sorted(set(given) & set(needed))
        if given[name].shape != needed[name].shape
    ]
    if missing or extra or misshaped:
        found = (("missing", missing), ("not known", extra), ("of another shape", misshaped))
        got = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in found if names)
        do = "name the network that the weights belong to (--model), at its published width"
        raise TensorFileError(what, where=file, got=got, expected=f"{len(needed)} tensors", do=do)


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
