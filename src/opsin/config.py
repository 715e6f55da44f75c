"""Every setting of a run: frozen, checked, and stored as plain JSON.

`RunConfig` holds four groups, one for each room that it steers: `data`, `model`, `augment`, `train`. Settings come in
layers (`resolve`): the fields' own defaults, then the defaults of the data set, then a recipe, then what the user
gave. Field names are unique over the groups, so a layer is one flat mapping and a command-line option is one field.
The resolved config is stored as config.json; feeding it back repeats the run.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from opsin.errors import ConfigError, nearest
from opsin.types import FitName

T = TypeVar("T")

NormalizeName = Literal["none", "unit", "signed", "standard", "learned"]
OptimizerName = Literal["sgd", "adam", "adamw", "nadam", "rmsprop", "muon"]
ScheduleName = Literal["constant", "step", "cosine", "one-cycle", "linear", "plateau"]
PrecisionName = Literal["auto", "float32", "bfloat16"]
PolicyName = Literal["none", "randaugment"]
BlockName = Literal["plain", "residual"]
UpsampleName = Literal["transpose", "bilinear", "nearest"]
MaskClassesName = Literal["all", "foreground"]
MaskLossName = Literal["cross-entropy", "dice", "cross-entropy-dice", "focal", "lovasz", "tversky"]
BoxLossName = Literal["mse", "smooth_l1", "iou", "giou", "diou", "ciou"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples are used, and at what size.

    Parameters
    ----------
    subset
        First n samples of a split in the publisher's order, e.g. `train=10000,test=2000`.
    val_fraction
        Share of `train` held out as `val` where the set has no val split of its own.
    stratify
        Keep the class shares when a split is drawn.
    split_seed
        Seed of the drawn splits. Independent of the run's seed, so that seeds share their splits.
    label_level
        Which labels of a set that has several, e.g. `fine` or `coarse` for cifar100.
    classes
        Classes of masks: `all`, or `foreground`, which makes one class of all but the background.
    input_size
        Side of the network's square input in pixels; its height where there is an input width.
    input_width
        Width of the network's input, where it is not square.
    fit
        How images of other shapes become square: squash, crop or pad.
    normalize
        none [0, 255], unit [0, 1], signed [-1, 1], standard (per-channel mean 0, sd 1 on train), or learned.
    allow_leaks
        Go on although images are shared between splits.
    skip_unreadable
        Go on when at most this many training samples are unreadable; each is named.
    box_units
        Unit of the boxes of arrays and tables: pixels, normalized (shares of the sides), or auto: detected and said.
    box_frame
        What the boxes of a photo with an EXIF orientation refer to: its upright or its stored pixels, or auto.
    clip_boxes
        Cut boxes at the edge of their image instead of refusing those that reach outside; they are counted.
    scenes
        Training scenes of digit_scenes.
    scene_clutter
        Pieces of other digits in each scene of digit_scenes.
    scene_scale
        Largest relative change of the digit's size in digit_scenes, e.g. 0.5 for 0.5 to 1.5.
    scene_noise
        Standard deviation of the noise of digit_scenes, in grey levels of 255.
    scene_outside
        Largest share of a side by which a digit of digit_scenes may lie outside; its box ends at the edge.
    """

    subset: str | None = None
    val_fraction: float = 0.1
    stratify: bool = True
    split_seed: int = 0
    label_level: str | None = None
    classes: MaskClassesName = "all"
    input_size: int | None = None
    input_width: int | None = None
    fit: FitName = "squash"
    normalize: NormalizeName = "standard"
    allow_leaks: bool = False
    skip_unreadable: int = 0
    box_units: Literal["auto", "pixels", "normalized"] = "auto"
    box_frame: Literal["auto", "upright", "stored"] = "auto"
    clip_boxes: bool = False
    scenes: int | None = None
    scene_clutter: int = 0
    scene_scale: float = 0.0
    scene_noise: float = 0.0
    scene_outside: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.val_fraction < 1, "val_fraction", self.val_fraction, "0 < x < 1")
        require(self.input_size is None or 1 <= self.input_size <= 4096, "input_size", self.input_size, "1 to 4096")
        require(self.input_width is None or 1 <= self.input_width <= 4096, "input_width", self.input_width, "1 to 4096")
        both = self.input_width is None or self.input_size is not None
        require(both, "input_width", self.input_width, "an input size, which is then the height")
        require(self.skip_unreadable >= 0, "skip_unreadable", self.skip_unreadable, "0 or more")
        require(self.scenes is None or self.scenes > 0, "scenes", self.scenes, "1 or more")
        require(0 <= self.scene_clutter <= 100, "scene_clutter", self.scene_clutter, "0 to 100")
        require(0 <= self.scene_scale <= 0.8, "scene_scale", self.scene_scale, "0 to 0.8")
        require(0 <= self.scene_noise <= 255, "scene_noise", self.scene_noise, "0 to 255")
        require(0 <= self.scene_outside <= 0.5, "scene_outside", self.scene_outside, "0 to 0.5")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network, and its knobs. A knob that the network does not have is refused.

    Parameters
    ----------
    model
        Name of the architecture; `opsin models` lists them.
    filters
        Filters of each convolutional layer (plain), or the widths of the stages (others).
    conv_layers
        Number of convolutional layers of the plain CNN, instead of `filters`; each has twice the filters of the last.
    first_filters
        Filters of the first of `conv_layers`.
    kernel_size
        Side of the plain CNN's filters.
    dense
        Nodes of each dense layer between the convolutions and the logits.
    batch_norm
        Batch normalization after each convolution and each dense layer.
    conv_dropout
        Share of activations dropped after each convolutional layer and its pooling.
    dense_dropout
        Share of activations dropped before each dense layer.
    dropout
        Share of activations dropped before the logits.
    downsample
        How the plain CNN halves its maps: max pooling or stride 2.
    block
        Blocks of the U-Net: plain, or residual.
    stem_stride
        Stride of the U-Net's first convolution: 1, 2 or 4.
    upsample
        How maps grow again where every pixel is classified: transpose, bilinear or nearest.
    skips
        Skip connections between maps of the same size, where every pixel is classified.
    """

    model: str = "plain"
    filters: tuple[int, ...] | None = None
    conv_layers: int | None = None
    first_filters: int | None = None
    kernel_size: int | None = None
    dense: tuple[int, ...] | None = None
    batch_norm: bool | None = None
    conv_dropout: float | None = None
    dense_dropout: float | None = None
    dropout: float | None = None
    downsample: Literal["pool", "stride"] | None = None
    block: BlockName | None = None
    stem_stride: int | None = None
    upsample: UpsampleName | None = None
    skips: bool | None = None

    def __post_init__(self) -> None:
        for name in ("filters", "dense"):
            require(all(n > 0 for n in getattr(self, name) or ()), name, getattr(self, name), "positive numbers")
        for name in ("conv_dropout", "dense_dropout", "dropout"):
            require(
                getattr(self, name) is None or 0 <= getattr(self, name) < 1, name, getattr(self, name), "0 <= x < 1"
            )
        for name in ("conv_layers", "first_filters"):
            require(getattr(self, name) is None or getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        odd = self.kernel_size is None or (self.kernel_size > 0 and self.kernel_size % 2 == 1)
        require(odd, "kernel_size", self.kernel_size, "an odd number")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training batches. Never applied to val or test. The zero of each knob is "off".

    Parameters
    ----------
    flip
        Mirror left and right: share of the epochs, evenly spread over them for each image.
    flip_vertical
        Mirror top and bottom: probability.
    shift
        Largest shift along each side, in pixels.
    shift_fill
        What enters at the edge of a shifted, rotated or scaled image: reflect or black.
    rotate
        Largest rotation in degrees, either way.
    scale
        Largest relative change of scale, e.g. 0.1 for 0.9 to 1.1.
    shear
        Largest shear in degrees, either way.
    elastic
        Largest displacement by a smooth elastic distortion, in pixels.
    crop_area
        Smallest area share of a random resized crop; 1 is off.
    brightness
        Largest relative change of brightness.
    contrast
        Largest relative change of contrast.
    saturation
        Largest relative change of saturation.
    hue
        Largest shift of hue, in turns (0 to 0.5).
    blur
        Largest standard deviation of a Gaussian blur, in pixels.
    cutout
        Side of a square set to the mean colour, in pixels.
    mixup
        Alpha of MixUp's Beta distribution.
    cutmix
        Alpha of CutMix's Beta distribution.
    policy
        A policy over all of the above: randaugment.
    policy_ops
        Operations that the policy applies to each image.
    policy_strength
        Strength of the policy's operations, 0 to 1.
    """

    flip: float = 0.0
    flip_vertical: float = 0.0
    shift: int = 0
    shift_fill: Literal["reflect", "black"] = "reflect"
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    crop_area: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    blur: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    policy: PolicyName = "none"
    policy_ops: int = 2
    policy_strength: float = 0.5

    def __post_init__(self) -> None:
        for name in ("flip", "flip_vertical", "policy_strength"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        for name in ("brightness", "contrast", "saturation", "scale"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 <= x < 1")
        for name in ("shift", "elastic", "blur", "cutout", "mixup", "cutmix", "policy_ops"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.rotate <= 180, "rotate", self.rotate, "0 to 180 degrees")
        require(0 <= self.shear < 80, "shear", self.shear, "0 to 80 degrees")
        require(0 < self.crop_area <= 1, "crop_area", self.crop_area, "0 < x <= 1")
        require(0 <= self.hue <= 0.5, "hue", self.hue, "0 to 0.5 turns")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the network is trained.

    Parameters
    ----------
    seed
        Seed of the weights, the order of samples, augmentation and dropout.
    epochs
        Passes over the training samples.
    minutes
        Budget of training time; the schedule is fitted to it, whichever of epochs and minutes ends first. Reading the
        data and the final scores come on top.
    batch_size
        Samples in one step of the optimizer.
    accumulate
        Parts into which a batch is cut, gradients added up.
    optimizer
        sgd (Nesterov), adam, adamw, nadam, rmsprop, or muon (filters; adamw for the rest).
    lr
        Peak learning rate.
    lr_other
        Peak learning rate of what Muon leaves to AdamW: biases, norms and the head.
    momentum
        Momentum of sgd, muon and rmsprop; beta1 of the Adam family.
    weight_decay
        Weight decay of weights, never of biases and norms: decoupled for adamw, nadam and muon, added to the gradient
        for sgd, adam and rmsprop.
    l2
        L2 penalty added to the loss, as in the courses.
    schedule
        Course of the learning rate over the steps.
    warmup
        Share of the steps in which the learning rate rises from zero.
    ema
        Decay of the exponential moving average of the weights per step; 0 is off.
    label_smoothing
        Share of the target spread evenly over all classes.
    class_weights
        Weigh the loss of each class by its inverse frequency.
    mask_loss
        Loss of masks: cross-entropy, dice, their sum, focal, lovasz or tversky.
    box_loss
        Loss of the box in localization: mse, smooth_l1, iou, giou, diou or ciou.
    box_weight
        Weight of the box's loss beside the class's.
    learn_weights
        Learn the weights of the two losses with the network (from their uncertainties) instead of `box_weight`.
    clip
        Largest norm of the gradient; 0 is off.
    patience
        Epochs without a better val score before training stops and the best weights are restored; 0 is off.
    restore_best
        Keep the weights of the best epoch on val rather than the last.
    resolutions
        Input sides over the course of training, e.g. `20,24,32`; equal shares of the epochs.
    precision
        float32, bfloat16, or auto: timed on this machine with this network.
    channels_last
        Memory format; None is timed.
    compile
        torch.compile: half a minute at the start, and on CPUs seldom faster.
    checkpoint_activations
        Recompute activations in the backward pass to save memory.
    checkpoint_minutes
        Minutes between checkpoints inside an epoch. At the end of an epoch there is one too, if the last is older than
        20 seconds.
    device
        cpu, cuda, mps or auto.
    threads
        CPU threads; 0 takes all.
    tensorboard
        Also write a TensorBoard log into the run folder.
    """

    seed: int = 0
    epochs: int = 10
    minutes: float | None = None
    batch_size: int = 128
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    lr_other: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    l2: float = 0.0
    schedule: ScheduleName = "cosine"
    warmup: float = 0.05
    ema: float = 0.0
    label_smoothing: float = 0.0
    class_weights: bool = False
    mask_loss: MaskLossName = "cross-entropy-dice"
    box_loss: BoxLossName = "giou"
    box_weight: float = 1.0
    learn_weights: bool = False
    clip: float = 0.0
    patience: int = 0
    restore_best: bool = True
    resolutions: tuple[int, ...] | None = None
    precision: PrecisionName = "auto"
    channels_last: bool | None = None
    compile: bool = False
    checkpoint_activations: bool = False
    checkpoint_minutes: float = 5.0
    device: str = "auto"
    threads: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "minutes", "batch_size", "lr", "lr_other", "accumulate", "checkpoint_minutes"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "more than 0")
        for name in ("momentum", "label_smoothing", "ema", "warmup"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, name, value, "0 <= x < 1")
        for name in ("weight_decay", "l2", "clip", "patience", "threads", "seed", "box_weight"):
            value = getattr(self, name)
            require(value is None or value >= 0, name, value, "0 or more")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of one run."""

    source: str = ""
    """Catalogue name or path of the data, as the user gave it."""
    root: str | None = None
    """Where catalogue sets lie."""
    task: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def require(holds: bool, name: str, got: object, expected: str) -> None:
    """Refuse a setting that is out of range.

    Raises:
        ConfigError: `holds` is false.
    """
    if not holds or (isinstance(got, float) and not math.isfinite(got)):
        raise ConfigError(f"setting `{name}` is out of range", got=got, expected=expected)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values; tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def from_dict(kind: type[T], values: Mapping[str, Any], *, where: str = "config") -> T:
    """Build a frozen config from plain values.

    Raises:
        ConfigError: a key is unknown (the nearest valid one is named), a type is wrong or a value out of range.
    """
    hints = typing.get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            close = nearest(key, known)
            hint = f"did you mean `{close}`?" if close else f"valid names: {', '.join(known)}"
            raise ConfigError(f"unknown setting `{key}`", where=where, got=key, do=hint)
    return kind(**{key: _checked(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _checked(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `hint`, or a ConfigError."""
    if is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(typing.cast("type[Any]", hint), value, where=where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _checked(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            close = nearest(str(value), [str(a) for a in arguments])
            do = f"did you mean `{close}`?" if close else None
            raise ConfigError("setting has no such choice", where=where, got=value, expected=arguments, do=do)
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_checked(arguments[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool) == isinstance(value, bool):
        return value
    expected = getattr(hint, "__name__", hint)
    raise ConfigError("setting has the wrong type", where=where, got=repr(value), expected=expected)


def resolve(*layers: Mapping[str, Any]) -> RunConfig:
    """One config from flat layers of settings; a later layer wins over an earlier one.

    >>> resolve({"epochs": 5}, {"epochs": 7, "flip": 0.5}).train.epochs
    7

    Raises:
        ConfigError: a key is unknown (the nearest valid one is named), a type is wrong or a value out of range.
    """
    given = {key: value for layer in layers for key, value in layer.items()}
    values: dict[str, Any] = {name: {} for name in GROUPS}
    for key, value in given.items():
        group = next((name for name, kind in GROUPS.items() if key in field_names(kind)), None)
        if group is not None:
            values[group][key] = value
        elif key in ("source", "root", "task"):
            values[key] = value
        else:
            close = nearest(key, setting_names())
            do = f"did you mean `{close}`?" if close else "`opsin train --help` lists the settings"
            raise ConfigError(f"unknown setting `{key}`", got=key, do=do)
    return from_dict(RunConfig, values, where="settings")


def flat(config: RunConfig) -> dict[str, Any]:
    """The settings of all groups as one flat mapping: the inverse of `resolve`."""
    values = {"source": config.source, "root": config.root, "task": config.task}
    return values | {key: value for name in GROUPS for key, value in to_dict(getattr(config, name)).items()}


def field_names(kind: type[Any]) -> list[str]:
    """Names of the fields of a config class, in order."""
    return [f.name for f in fields(kind)]


def setting_names() -> list[str]:
    """Names of all settings of a run, over all groups."""
    return [name for kind in GROUPS.values() for name in field_names(kind)]


GROUPS: dict[str, type[Any]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "augment": AugmentConfig,
    "train": TrainConfig,
}
