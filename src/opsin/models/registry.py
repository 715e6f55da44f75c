"""All architectures by name, and their options from settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

from opsin import plugins
from opsin.config import ModelConfig, field_names, from_dict
from opsin.errors import ConfigError, nearest
from opsin.models.architectures.classic import VGG16, AlexNet, AlexNetOptions, ClassicOptions, LeNet5, LeNetOptions
from opsin.models.architectures.dense import Dense, DenseOptions
from opsin.models.architectures.googlenet import GoogLeNet, GoogLeNetOptions
from opsin.models.architectures.mobile import (
    EfficientNetLiteOptions,
    MobileNetV2Options,
    efficientnet_lite0,
    mobilenet_v2,
)
from opsin.models.architectures.plain import Plain, PlainOptions
from opsin.models.architectures.resnet import ResNetOptions, resnet18, resnet50, seresnet50
from opsin.models.architectures.small import Small, SmallOptions
from opsin.models.architectures.smp import ARCHITECTURES, EXTRA, SmpOptions, is_installed
from opsin.models.architectures.tiny import Tiny, TinyOptions
from opsin.models.architectures.unet import DecoderOptions, UNet, UNetOptions
from opsin.models.architectures.xception import Xception, XceptionOptions
from opsin.models.own import OWN
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.heads import HEAD
from opsin.types import JsonDict

LEARNED_INPUT = "learned_input"
"""The one option that every network has: begin with a learned normalization of the input."""
FULLY_CONVOLUTIONAL = "fully_convolutional"
"""The option of a converted network: dense layers are convolutions (`opsin.models.convert`)."""
DECODER = "decoder"
"""Key of the decoder's options in a network's options."""
ENSEMBLE = "ensemble"
"""Name in the specs of networks that average others (`opsin.models.wrappers.ensemble`)."""
ABOVE_THE_BACKBONE = (LEARNED_INPUT, FULLY_CONVOLUTIONAL, DECODER, HEAD)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything needed to rebuild a network: its name, the shape of its images, its options as plain JSON."""

    name: str
    channels: int
    height: int
    width: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One architecture.

    `default_size` is the (channels, height, width) for which its sizes are quoted. `options` are its options with their
    defaults; `option_names` are the settings of `ModelConfig` that it has. `options_type` is the frozen class of the
    options, and `build` makes the backbone of (channels, height, width, options). `family` is the year of a classic
    network, and its contribution. `extra`: the additional package it needs.
    """

    name: str
    description: str
    source: str
    default_size: tuple[int, int, int]
    options_type: type[Any]
    build: Callable[[int, int, int, Any], Backbone]
    extra_options: tuple[str, ...] = ()
    family: str = ""
    extra: str = ""

    @property
    def weights(self) -> tuple[str, ...]:
        """Every way to get published weights, one line each; may be empty."""
        from opsin.models.weights.published import weights_to_be_had

        return weights_to_be_had(self.name)

    @property
    def is_here(self) -> bool:
        """Whether its packages are installed."""
        return not self.extra or is_installed()

    @property
    def options(self) -> dict[str, Any]:
        """The options at their defaults, as plain JSON."""
        return _plain(self.options_type())

    @property
    def option_names(self) -> tuple[str, ...]:
        """Names of the settings of this network."""
        return (*(f.name for f in fields(self.options_type)), *self.extra_options)


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a user-defined network: none."""


def _no_backbone(channels: int, height: int, width: int, options: NoOptions) -> Backbone:
    what = "a user-defined network has no backbone to add heads to"
    raise ConfigError(what, do="let the network return the outputs of the task itself")


ENTRIES: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="dense",
            description="Dense baseline: flatten, dense layers, dropout. A baseline without convolutions.",
            source="The courses' first network; Keras' beginner tutorial.",
            default_size=(1, 28, 28),
            options_type=DenseOptions,
            build=Dense,
        ),
        ModelEntry(
            name="plain",
            description="Plain CNN: convolutions with batch norm and pooling, dense layers. Every part is an option.",
            source="The courses' CNN.",
            default_size=(3, 32, 32),
            options_type=PlainOptions,
            build=Plain,
            extra_options=("conv_layers", "first_filters"),
        ),
        ModelEntry(
            name="small",
            description="Opsin's for images of 28 to 96 pixels: whitened patches, residual stages, global maximum.",
            source="Opsin; whitening and the scaled head as in Jordan, arXiv 2404.00498.",
            default_size=(3, 32, 32),
            options_type=SmallOptions,
            build=Small,
        ),
        ModelEntry(
            name="tiny",
            description="Opsin's for drawings and digits: wide first filters, few convolutions, global maximum.",
            source="Opsin.",
            default_size=(1, 28, 28),
            options_type=TinyOptions,
            build=Tiny,
        ),
        ModelEntry(
            name="unet",
            description="U-Net: blocks and pooling down, blocks and upsampling back up. Every part is an option.",
            source="Ronneberger et al. 2015, arXiv 1505.04597.",
            default_size=(3, 160, 160),
            options_type=UNetOptions,
            build=UNet,
        ),
        ModelEntry(
            name="lenet5",
            description="LeNet-5: two convolutions with mean pooling, tanh. For digits.",
            source="LeCun et al. 1998, Proceedings of the IEEE 86.",
            default_size=(1, 28, 28),
            options_type=LeNetOptions,
            build=LeNet5,
            family="1998: learned convolutions with shared weights and pooling, trained end to end, for digits.",
        ),
        ModelEntry(
            name="alexnet",
            description="AlexNet: five convolutions, local response normalization, dense layers.",
            source="Krizhevsky et al. 2012; widths of arXiv 1404.5997.",
            default_size=(3, 224, 224),
            options_type=AlexNetOptions,
            build=AlexNet,
            family="2012: ReLU, dropout and GPUs made a deep network win ImageNet; local response normalization.",
        ),
        ModelEntry(
            name="vgg16",
            description="VGG16: thirteen 3x3 convolutions, dense layers.",
            source="Simonyan and Zisserman 2014, arXiv 1409.1556.",
            default_size=(3, 224, 224),
            options_type=ClassicOptions,
            build=VGG16,
            family="2014: depth from small filters: two 3x3 convolutions see what one 5x5 does, with fewer weights.",
        ),
        ModelEntry(
            name="googlenet",
            description="GoogLeNet: inception modules, filters of several sizes side by side.",
            source="Szegedy et al. 2014, arXiv 1409.4842.",
            default_size=(3, 224, 224),
            options_type=GoogLeNetOptions,
            build=GoogLeNet,
            family="2014: inception modules; 1x1 convolutions that save work; means of maps for dense layers.",
        ),
        ModelEntry(
            name="resnet18",
            description="ResNet-18: residual blocks of two 3x3 convolutions.",
            source="He et al. 2015, arXiv 1512.03385.",
            default_size=(3, 224, 224),
            options_type=ResNetOptions,
            build=resnet18,
            family="2015: blocks learn what to add to their input, so that depth does not hinder training.",
        ),
        ModelEntry(
            name="resnet50",
            description="ResNet-50: residual bottlenecks of 1x1, 3x3 and 1x1 convolutions.",
            source="He et al. 2015, arXiv 1512.03385.",
            default_size=(3, 224, 224),
            options_type=ResNetOptions,
            build=resnet50,
            family="2015: residual blocks, here as bottlenecks, which filter few maps and keep many.",
        ),
        ModelEntry(
            name="seresnet50",
            description="SE-ResNet-50: ResNet-50 whose blocks weigh their maps.",
            source="Hu et al. 2017, arXiv 1709.01507.",
            default_size=(3, 224, 224),
            options_type=ResNetOptions,
            build=seresnet50,
            family="2017: squeeze and excitation: the means of all maps decide how much each map counts.",
        ),
        ModelEntry(
            name="xception",
            description="Xception: depthwise separable convolutions with residual connections.",
            source="Chollet 2016, arXiv 1610.02357.",
            default_size=(3, 299, 299),
            options_type=XceptionOptions,
            build=Xception,
            family="2016: space and channels apart: every convolution is depthwise, then 1x1.",
        ),
        ModelEntry(
            name="mobilenet_v2",
            description="MobileNetV2: inverted residual blocks, cheap enough for a phone.",
            source="Sandler et al. 2018, arXiv 1801.04381.",
            default_size=(3, 224, 224),
            options_type=MobileNetV2Options,
            build=mobilenet_v2,
            family="2018: inverted residuals: wide inside, narrow between; no activation at the narrow end.",
        ),
        ModelEntry(
            name="efficientnet_lite0",
            description="EfficientNet-Lite0: MobileNetV2's blocks, their sizes found by search.",
            source="Tan and Le 2019, arXiv 1905.11946; published lite variant of 2020.",
            default_size=(3, 224, 224),
            options_type=EfficientNetLiteOptions,
            build=efficientnet_lite0,
            family="2019: depth, width and image size scaled together from a small network that was found by search.",
        ),
    )
}


def _only_masks(name: str, channels: int, height: int, width: int, options: Any) -> Backbone:
    do = "train it on images with masks, or choose another network"
    raise ConfigError("this network predicts masks, not labels or boxes", where="model", got=name, do=do)


SEGMENTERS: dict[str, ModelEntry] = {
    name: ModelEntry(
        name=name,
        description=about.description,
        source=about.source,
        default_size=(3, 160, 160),
        options_type=SmpOptions,
        build=partial(_only_masks, name),
        extra=EXTRA,
    )
    for name, about in ARCHITECTURES.items()
}
"""Networks that only classify pixels: they have no `Backbone` (`opsin.models.architectures.smp`)."""


def is_ours(name: str) -> bool:
    """Whether a network of that name is built in, and so cannot be replaced."""
    return name in ENTRIES or name in SEGMENTERS


def is_own(name: str) -> bool:
    """Whether a network of that name is user-defined, registered or not."""
    return not is_ours(name) and (name.startswith(OWN) or name in plugins.names("models"))


def get_entry(name: str) -> ModelEntry:
    """The architecture of this name: a built-in one, one of `SEGMENTERS`, else one of timm's, as `timm/NAME` or NAME.

    Raises:
        ConfigError: no such architecture; the closest name is suggested.
    """
    ours = ENTRIES | SEGMENTERS
    if name in ours:
        return ours[name]
    if is_own(name):
        return ModelEntry(
            name=name,
            description="A user-defined network.",
            source=name.removeprefix(OWN),
            default_size=(3, 224, 224),
            options_type=NoOptions,
            build=_no_backbone,
        )
    # timm takes seconds to import: only for names that are not built in
    from opsin.models.architectures.timm_networks import PREFIX, TimmBackbone, TimmOptions, timm_facts, timm_name

    theirs = timm_name(name)
    if theirs is None:
        close = nearest(name, ours)
        do = f"did you mean `{close}`?" if close else "`opsin models` lists them"
        expected = f"{', '.join(ours)}; or a network of timm"
        raise ConfigError("unknown network", where="model", got=name, expected=expected, do=do)
    return ModelEntry(
        name=PREFIX + theirs,
        description="A network of timm.",
        source="https://github.com/huggingface/pytorch-image-models",
        default_size=timm_facts(theirs)["input_size"],
        options_type=TimmOptions,
        build=partial(TimmBackbone, theirs),
    )


def resolve_options(name: str, config: ModelConfig, *, learned_input: bool = False, decoder: bool = False) -> JsonDict:
    """All options of network `name` as plain JSON: its defaults, and over them the options set in `config`.

    >>> resolve_options("plain", ModelConfig(conv_layers=4, first_filters=16))["filters"]
    [16, 32, 64, 128]

    Args:
        name: the architecture.
        config: options; None leaves the default. `config.model` is ignored.
        learned_input: begin with a learned normalization of the input.
        decoder: the network classifies pixels: it has the decoder's options too; shared options apply to both.

    Raises:
        ConfigError: no such network, an option it does not have, or options that contradict each other.
    """
    given = {key: getattr(config, key) for key in field_names(ModelConfig) if key != "model"}
    given = {key: value for key, value in given.items() if value is not None}
    entry = get_entry(name)
    decoder = decoder and name not in SEGMENTERS  # they have their own
    extra = {key: given[key] for key in field_names(DecoderOptions) if decoder and key in given}
    for key in given:
        if key not in entry.option_names and key not in extra:
            raise ConfigError(
                f"network `{name}` has no option `{key}`", got=key, expected=", ".join(entry.option_names)
            )
    given = {key: value for key, value in given.items() if key in entry.option_names}
    if "conv_layers" in entry.option_names:
        given = _count_to_filters(given)
    options = from_dict(entry.options_type, given, where=f"options of {name}")
    above = {DECODER: _plain(from_dict(DecoderOptions, extra, where="options of the decoder"))} if decoder else {}
    return _plain(options) | above | ({LEARNED_INPUT: True} if learned_input else {})


def _count_to_filters(given: dict[str, Any]) -> dict[str, Any]:
    """Replace a number of layers and first filters by the filters of each layer, doubling from one to the next."""
    counted = [key for key in ("conv_layers", "first_filters") if key in given]
    if not counted:
        return given
    if "filters" in given:
        raise ConfigError(
            f"`filters` and `{counted[0]}` contradict each other",
            got={key: given[key] for key in ("filters", *counted)},
            do="give either the filters of each layer, or the number of layers and the first filters",
        )
    default = PlainOptions().filters
    count, first = given.get("conv_layers", len(default)), given.get("first_filters", default[0])
    rest = {key: value for key, value in given.items() if key not in counted}
    return rest | {"filters": tuple(first * 2**layer for layer in range(count))}


def _plain(options: Any) -> dict[str, Any]:
    """Frozen options as plain JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(options)))
    return plain
