"""Weights of published networks, converted from other packages' names and layouts.

Every tensor is accounted for: missing, unknown or misshaped ones are refused with a list. A file with unknown
preprocessing is refused, as a wrong input range degrades a network silently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opsin.errors import ConfigError, TensorFileError
from opsin.io.files import PathLike, read_json, sha256_file
from opsin.io.gate import first_bytes, printable
from opsin.io.hdf5 import HDF5_MAGIC, read_keras_layers
from opsin.io.tensors import read_tensors, read_torch_weights
from opsin.models.building import build_backbone, build_network
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.network import Network
from opsin.models.registry import ENTRIES, ModelSpec, get_entry
from opsin.models.weights import published
from opsin.models.weights.contracts import INPUT_RANGES, InputContract, named_contract
from opsin.models.weights.keras_weights import from_keras
from opsin.models.weights.naming import BY_NAMING, HEAD, NO_LAYER, STEP_COUNTER, UNUSED, NamingName, in_our_names

CONTRACT_KEY = "opsin.input"
"""Key of an `InputContract` as JSON in the header of a safetensors file."""
MAX_LISTED = 6


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights in Opsin's names, with everything needed to use them.

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
        """The network of the weights, at the size they expect."""
        return _spec(self.model, self.contract, self.options)

    @property
    def published_head(self) -> Mapping[str, Tensor]:
        """The head of the published classes.

        Raises:
            TensorFileError: the weights have none.
        """
        if self.head is None:
            do = "use the file with the top layers, or train a head"
            raise TensorFileError("the weights have no head", where=self.file, do=do)
        return self.head


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """Facts of weights before their tensors are read; fields as in `Pretrained`."""

    model: str
    contract: InputContract
    file: str
    sha256: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_pretrained(weights: str, model: str, *, input_range: str | None = None) -> Pretrained:
    """Weights for `model` from the source named by the user.

    Args:
        weights: a file, `package` (an installed package), or `timm` or `torchvision` (downloads).
        model: name of the network.
        input_range: one of `INPUT_RANGES`; it overrides the contract of the file.

    Raises:
        ConfigError: no such weights for this network, or their preprocessing is unknown.
        TensorFileError: the file has no weights, or does not fit the network.
        DownloadError: the weights cannot be downloaded.
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
        origin = _Origin(model=model, contract=contract, file=address)
        return _pretrained(*in_our_names(tensors, model, address), origin)
    return read_pretrained(weights, model, input_range=input_range)


def read_pretrained(path: PathLike, model: str, *, input_range: str | None = None) -> Pretrained:
    """Weights for `model` from a file: safetensors (also an artefact's), torch (.pth), or Keras' HDF5 (.h5).

    Raises:
        TensorFileError: another format, or tensors that do not fit the network.
        ConfigError: the preprocessing of the weights is unknown, or no weights are known for the network.
    """
    get_entry(model)
    sha256 = sha256_file(path)
    known = published.recognize(path, sha256, model)
    keras = first_bytes(path, TensorFileError).startswith(HDF5_MAGIC)
    tensors, metadata = ({}, {}) if keras else _read(path)
    contract = _contract(path, metadata, known, input_range)
    if contract is None:
        raise _unknown_input(path, published.KERAS_CONTRACTS.get(model) if keras else None)
    origin = _Origin(model=model, contract=contract, file=printable(path), sha256=sha256)
    if known:
        origin = replace(origin, options=known.options, notes=(f"recognized as {known.title}",))
    if not keras:
        return _pretrained(*in_our_names(tensors, model, origin.file), origin)
    named, options = from_keras(read_keras_layers(path), model, origin.file)
    return _pretrained("keras", named, replace(origin, options=options | dict(origin.options)))


def load_pretrained(backbone: Backbone, pretrained: Pretrained) -> tuple[str, ...]:
    """Set the weights of a backbone that was built with `pretrained.options`; returns notes on ignored tensors.

    Raises:
        TensorFileError: a tensor is missing or has another shape.
    """
    own = backbone.state_dict()
    given = {name: tensor for name, tensor in pretrained.tensors.items() if name in own}
    _check(given, _needed(backbone), pretrained.file, what=f"the weights do not fit this `{pretrained.model}`")
    backbone.load_state_dict(given, strict=False)
    left_out = sorted(set(pretrained.tensors) - set(own))
    if not left_out:
        return ()
    return (f"{len(left_out)} tensors of layers this network lacks were ignored: {_listed(left_out)}",)


def load_head(head: nn.Module, pretrained: Pretrained) -> None:
    """Set the head of the published classes.

    Raises:
        TensorFileError: the weights have no head, or one of another shape.
    """
    given = pretrained.published_head
    _check(given, head.state_dict(), pretrained.file, what="the head does not fit")
    head.load_state_dict(dict(given))


def pretrained_network(pretrained: Pretrained) -> Network:
    """The whole published network, with its head, for inference.

    Raises:
        TensorFileError: the weights have no head.
    """
    spec = pretrained.spec
    outputs = {"logits": len(pretrained.published_head["weight"])}
    if pretrained.model in ENTRIES:  # all values come from the weights: random ones would take seconds
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
    # torch writes ZIP or pickle; a safetensors file may begin with the same byte, but JSON follows
    if start.startswith((b"PK", b"\x80")) and start[8:9] != b"{":
        return read_torch_weights(path), {}
    return read_tensors(path)


def _contract(
    path: PathLike, metadata: Mapping[str, str], known: published.KnownFile | None, input_range: str | None
) -> InputContract | None:
    """The contract given by the user, else by the file, else known of it, else of its artefact."""
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
    """The contract of the artefact that the file is part of."""
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
    ranges = "; ".join(f"{name} ({contract})" for name, contract in INPUT_RANGES.items())
    hint = f"; Keras feeds this network `{usual}`" if usual else ""
    return ConfigError(
        "the preprocessing of these weights is unknown",
        where=printable(path),
        expected=f"a file with a known hash, or metadata `{CONTRACT_KEY}`",
        do=f"give its input range: --weights-range {ranges}{hint}",
    )


def _pretrained(naming: NamingName, named: Mapping[str, Tensor], origin: _Origin) -> Pretrained:
    """Tensors under Opsin's names, without those of training and of the head, checked against the network."""
    options = BY_NAMING.get((origin.model, naming), {}) | dict(origin.options)
    head = {name.removeprefix(f"{HEAD}."): tensor for name, tensor in named.items() if name.startswith(f"{HEAD}.")}
    unused = UNUSED.get(origin.model, (NO_LAYER,))
    num_unused = sum(name.startswith(unused) for name in named)
    body = {name: tensor for name, tensor in named.items() if not name.startswith((f"{HEAD}.", *unused))}
    with torch.device("meta"):
        needed = _needed(build_backbone(_spec(origin.model, origin.contract, options)))
    body = {name: _as_dense(tensor, needed.get(name)) for name, tensor in body.items()}
    _check(body, needed, origin.file, what=f"the weights do not fit network `{origin.model}`")
    left_out = (f"{num_unused} tensors of further classifiers were ignored",) if num_unused else ()
    return Pretrained(
        model=origin.model,
        tensors=body,
        head=head or None,
        naming=naming,
        contract=origin.contract,
        options=options,
        notes=(*origin.notes, *left_out, f"{naming} names", f"input {origin.contract}"),
        file=origin.file,
        sha256=origin.sha256,
    )


def _spec(model: str, contract: InputContract, options: Mapping[str, Any]) -> ModelSpec:
    return ModelSpec(name=model, channels=3, height=contract.height, width=contract.width, options=dict(options))


def _needed(backbone: Backbone) -> dict[str, Tensor]:
    """The tensors required for a backbone."""
    return {name: tensor for name, tensor in backbone.state_dict().items() if not name.endswith(STEP_COUNTER)}


def _as_dense(tensor: Tensor, needed: Tensor | None) -> Tensor:
    """Timm's VGG has its dense layers as convolutions: their filters [out, C, h, w] become weights [out, C h w]."""
    return tensor.flatten(1) if needed is not None and needed.ndim == 2 and tensor.ndim == 4 else tensor


def _check(given: Mapping[str, Tensor], needed: Mapping[str, Tensor], file: str, *, what: str) -> None:
    """Refuse tensors that are missing, unknown, or of another shape."""
    missing = sorted(set(needed) - set(given))
    extra = sorted(set(given) - set(needed))
    misshaped = [
        f"{name} {list(given[name].shape)} for {list(needed[name].shape)}"
        for name in sorted(set(given) & set(needed))
        if given[name].shape != needed[name].shape
    ]
    if missing or extra or misshaped:
        found = (("missing", missing), ("unknown", extra), ("of another shape", misshaped))
        got = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in found if names)
        do = "name the network that the weights belong to (--model), at its published width"
        raise TensorFileError(what, where=file, got=got, expected=f"{len(needed)} tensors", do=do)


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
