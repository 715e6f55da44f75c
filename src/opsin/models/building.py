"""From a spec to a network: Opsin's, timm's or a user-defined one, with the heads of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opsin.batches.preprocess import Preprocess
from opsin.config import from_dict
from opsin.errors import ArtifactError, ConfigError
from opsin.models import own
from opsin.models.architectures.smp import SmpOptions, SmpSegmenter
from opsin.models.architectures.unet import DecoderOptions, Segmenter
from opsin.models.own import ModelFactory, OwnNetwork
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.heads import class_head
from opsin.models.parts.layers import seeded
from opsin.models.parts.network import Network
from opsin.models.registry import (
    ABOVE_THE_BACKBONE,
    DECODER,
    ENSEMBLE,
    LEARNED_INPUT,
    SEGMENTERS,
    ModelSpec,
    get_entry,
    is_ours,
    is_own,
)
from opsin.models.wrappers.ensemble import Ensemble


def register_model(name: str, build: ModelFactory) -> None:
    """Make a network known by name in this process, for `train`, and for runs that were trained with it.

    Args:
        name: name for `model=` and `--model`.
        build: called with keywords `channels, height, width, num_outputs`; returns the module.

    >>> from torch import nn
    >>> register_model("flat", lambda *, channels, height, width, num_outputs: nn.Sequential(
    ...     nn.Flatten(), nn.Linear(channels * height * width, num_outputs)))
    >>> is_own("flat")
    True

    Raises:
        ConfigError: the name is that of a built-in network.
    """
    if is_ours(name):
        raise ConfigError("a built-in network has this name", where="name", got=name, do="choose another name")
    own.register(name, build)


def build_backbone(spec: ModelSpec) -> Backbone:
    """The network of `spec` without heads. Build it inside `seeded(seed)` to fix its weights.

    Raises:
        ConfigError: no such network, an option it does not have, or images too small for it.
    """
    if spec.name == ENSEMBLE:
        return build_ensemble(spec)
    entry = get_entry(spec.name)
    options = {key: value for key, value in spec.options.items() if key not in ABOVE_THE_BACKBONE}
    checked = from_dict(entry.options_type, options, where=f"options of {spec.name}")
    return entry.build(spec.channels, spec.height, spec.width, checked)


def build_network(spec: ModelSpec, outputs: Mapping[str, int], *, seed: int | None = None) -> Network:
    """The network of `spec` with one linear head for each of `outputs`, e.g. `{"logits": 10}`.

    Args:
        spec: the architecture.
        outputs: length of each output by name.
        seed: fixes the weights; without it they come from the current random state (e.g. an outer `seeded`).

    Raises:
        ConfigError: as `build_backbone`.
    """
    if seed is not None:
        with seeded(seed):
            return build_network(spec, outputs)
    backbone = build_backbone(spec)
    heads = {name: class_head(backbone, length, spec.options) for name, length in outputs.items()}
    return Network(
        backbone,
        heads,
        channels=spec.channels,
        height=spec.height,
        width=spec.width,
        learned_input=bool(spec.options.get(LEARNED_INPUT, False)),
    )


def build_with_heads(spec: ModelSpec, outputs: Mapping[str, int]) -> Network | OwnNetwork:
    """As `build_network`, or the user-defined network of `spec`, which has its own heads.

    Raises:
        ConfigError: as `build_backbone`, or it is not registered.
    """
    return own_network(spec, outputs) if is_own(spec.name) else build_network(spec, outputs)


def own_network(spec: ModelSpec, outputs: Mapping[str, int]) -> OwnNetwork:
    """The user-defined network of `spec`, with the outputs of a task.

    Raises:
        ConfigError: it is not registered.
    """
    return own.build_own(
        spec.name,
        outputs,
        channels=spec.channels,
        height=spec.height,
        width=spec.width,
        learned_input=bool(spec.options.get(LEARNED_INPUT, False)),
    )


def build_segmenter(spec: ModelSpec, num_classes: int) -> Segmenter | SmpSegmenter | OwnNetwork:
    """The network of `spec` with a decoder over its pyramid, with `num_classes` logits per pixel.

    Raises:
        ConfigError: as `build_backbone`, or the network has no feature maps.
    """
    if is_own(spec.name):
        return own_network(spec, {"logits": num_classes})
    learned_input = bool(spec.options.get(LEARNED_INPUT, False))
    if spec.name in SEGMENTERS:
        encoder = {key: value for key, value in spec.options.items() if key not in ABOVE_THE_BACKBONE}
        chosen = from_dict(SmpOptions, encoder, where=f"options of {spec.name}")
        return SmpSegmenter(spec.name, chosen, num_classes, channels=spec.channels, learned_input=learned_input)
    decoder = from_dict(DecoderOptions, spec.options.get(DECODER, {}), where="options of the decoder")
    return Segmenter(
        build_backbone(spec),
        num_classes,
        channels=spec.channels,
        height=spec.height,
        width=spec.width,
        options=decoder,
        learned_input=learned_input,
    )


def build_ensemble(spec: ModelSpec) -> Ensemble:
    """The ensemble of `ensemble_spec`, its members' weights not yet loaded.

    Raises:
        ArtifactError: the description is incomplete.
    """
    try:
        described: Sequence[Mapping[str, Any]] = spec.options["members"]
        num_classes, weights = int(spec.options["num_classes"]), [float(w) for w in spec.options["weights"]]
        specs = [ModelSpec(**one["spec"]) for one in described]
        preprocess = [Preprocess.from_dict(one["preprocess"]) for one in described]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            "the description of an ensemble is incomplete", got=repr(error), do="copy the artefact again"
        ) from error
    if not described or len(weights) != len(described):
        raise ArtifactError("an ensemble needs a weight for each member", got=f"{len(weights)} of {len(described)}")
    return Ensemble([build_network(one, {"logits": num_classes}) for one in specs], preprocess, weights, num_classes)
