"""Default search spaces: by task, and by whether the network is new or pretrained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from opsin import config as settings_of
from opsin.config import AugmentConfig, MaskLossName, ModelConfig, RunConfig
from opsin.data.samples import Dataset
from opsin.errors import ConfigError, nearest
from opsin.models.registry import get_entry
from opsin.studies.space import Choices, Parameter, Range, text_of_value
from opsin.tasks import card_of, get_task
from opsin.tasks.common_defaults import PHOTO_SIDE_PX
from opsin.training.features import is_cached
from opsin.training.setup.defaults import defaults_for

WIDEST = 256
"""Largest filters of a layer for which wider networks are in the space."""
MOST_LAYERS = 4


@dataclass(frozen=True, kw_only=True)
class Base:
    """The basis of a space: the data, and the given settings."""

    dataset: Dataset
    config: RunConfig

    @property
    def side_px(self) -> int:
        """The shorter side of the network's input."""
        given = self.config.data.input_size
        return given or min(self.dataset.size or (PHOTO_SIDE_PX, PHOTO_SIDE_PX))

    @property
    def settings(self) -> dict[str, Any]:
        """All settings as one flat layer, options of the network that are left open at the network's defaults."""
        values = settings_of.flat(self.config)
        options = {name: self.option(name) for name in settings_of.field_names(ModelConfig) if values[name] is None}
        return values | options

    def option(self, name: str) -> Any:
        """An option of the network: as it is set, or its default; None where the network has none."""
        entry = get_entry(self.config.model.model)
        if name not in entry.option_names:
            return None
        value = getattr(self.config.model, name)
        return entry.options.get(name) if value is None else value


def default_space(base: Base) -> tuple[Parameter, ...]:
    """The default space for the task and the network."""
    card = card_of(base.dataset.task)
    names = card.searched if base.config.finetune.weights is None else card.searched_pretrained
    return tuple(part for name in names for part in BUILDERS[name](base))


def named_space(names: str, base: Base) -> tuple[Parameter, ...]:
    """The default ranges of the parameters in `names`, as in `lr,batch_size,filters`.

    Raises:
        ConfigError: a name that is unknown or given twice, or a parameter that the network does not have.
    """
    found: list[Parameter] = []
    asked = [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in BUILDERS:
            close = nearest(name, BUILDERS)
            do = f"did you mean `{close}`?" if close else "--space FILE searches any setting"
            raise ConfigError("no search parameter of this name", got=name, expected=", ".join(BUILDERS), do=do)
        if asked.count(name) > 1:
            raise ConfigError("a parameter is named twice", got=names)
        parts = BUILDERS[name](base)
        if not parts:
            model, task = base.config.model.model, base.dataset.task
            raise ConfigError(f"`{name}` does not apply here", got=f"network {model}, task {task}", do="leave it out")
        found += parts
    return tuple(found)


def _lr(base: Base) -> list[Parameter]:
    lr = base.config.train.lr
    return [Range(name="lr", low=lr / 10, high=lr * 10, log=True)]


def _batch_size(base: Base) -> list[Parameter]:
    size = base.config.train.batch_size
    most = max(size, len(base.dataset.splits["train"]) // 8)
    sizes = sorted({max(8, size // 4), max(8, size // 2), size, size * 2})
    return [_choices("batch_size", [n for n in sizes if n <= most])]


def _filters(base: Base) -> list[Parameter]:
    filters = base.option("filters")
    if not filters:
        width = base.option("width")
        return [] if width is None else [_choices("width", sorted({0.5 * width, 0.75 * width, width}))]
    widths = [[max(8, int(n * factor)) for n in filters] for factor in (0.5, 1, 2)]
    if base.config.model.model == "plain":
        deepest = min(MOST_LAYERS, base.side_px.bit_length() - 2)
        added = range(1, deepest - len(filters) + 1)
        widths += [[*layers, *(layers[-1] * 2 ** (i + 1) for i in range(more))] for layers in widths for more in added]
    fitting = [layers for layers in widths if max(layers) <= max(WIDEST, *filters)]
    return [_choices("filters", sorted(fitting))]


def _dense(base: Base) -> list[Parameter]:
    if base.option("dense") is None:
        return []
    return [_choices("dense", [[], [64], [128], [256]])]


def _dropout(base: Base) -> list[Parameter]:
    names = [name for name in ("conv_dropout", "dropout") if base.option(name) is not None]
    return [Range(name=name, low=0.0, high=0.5) for name in names]


def _batch_norm(base: Base) -> list[Parameter]:
    return [] if base.option("batch_norm") is None else [_choices("batch_norm", [False, True])]


def _schedule(base: Base) -> list[Parameter]:
    return [_choices("schedule", ["constant", "cosine", "one-cycle", "linear"])]


def _label_smoothing(base: Base) -> list[Parameter]:
    return [Range(name="label_smoothing", low=0.0, high=0.3)] if card_of(base.dataset.task).decides_class else []


def _weight_decay(base: Base) -> list[Parameter]:
    return [_choices("weight_decay", sorted({0.0, 1e-4, 1e-3, 1e-2, 5e-2, base.config.train.weight_decay}))]


def _backbone_lr(base: Base) -> list[Parameter]:
    tuned = base.config.finetune
    return (
        []
        if tuned.weights is None or tuned.finetune == "head"
        else [Range(name="backbone_lr", low=0.05, high=1.0, log=True)]
    )


def _mask_loss(base: Base) -> list[Parameter]:
    return [_choices("mask_loss", get_args(MaskLossName))] if "mask_loss" in card_of(base.dataset.task).settings else []


def _box_weight(base: Base) -> list[Parameter]:
    weight = base.config.train.box_weight
    if "box_weight" not in card_of(base.dataset.task).settings or not weight:
        return []
    return [Range(name="box_weight", low=weight / 4, high=weight * 4, log=True)]


def _augment(base: Base) -> list[Parameter]:
    """From no augmentation to a strong one; images are mirrored only where this data set's defaults do."""
    if is_cached(base.config, base.dataset.task):  # features of images are computed once
        return []
    off = asdict(AugmentConfig())
    flip = max(base.config.augment.flip, float(defaults_for(base.dataset).get("flip", 0.0)))
    levels = _levels(base.dataset.task, base.side_px)
    choices = {"none": off}
    for label, level in levels.items():
        if (settings := off | {"flip": flip} | level) != off:
            choices[label] = settings
    return [Choices(name="augment", choices=choices)]


def _levels(task: str, side_px: int) -> dict[str, dict[str, Any]]:
    colour = {"brightness": 0.2, "contrast": 0.2}
    if not card_of(task).moves_freely:  # a crop might cut off what a box is put around
        return {"light": {}, "medium": colour, "strong": {**colour, "scale": 0.1, "shift": max(1, side_px // 16)}}
    if side_px >= PHOTO_SIDE_PX:
        return {"light": {"crop_area": 0.7}, "medium": {"crop_area": 0.35}, "strong": {"crop_area": 0.35, **colour}}
    light = {"shift": max(1, side_px // 16)}
    medium = {**light, "rotate": 10.0, "scale": 0.1}
    return {
        "light": light,
        "medium": medium,
        "strong": {**light, **({"cutout": side_px // 4} if get_task(task).one_class else medium), **colour},
    }


def _choices(name: str, values: Sequence[Any]) -> Choices:
    return Choices(name=name, choices={text_of_value(value): {name: value} for value in values})


BUILDERS: Mapping[str, Callable[[Base], list[Parameter]]] = {
    "lr": _lr,
    "batch_size": _batch_size,
    "filters": _filters,
    "dense": _dense,
    "dropout": _dropout,
    "batch_norm": _batch_norm,
    "augment": _augment,
    "schedule": _schedule,
    "label_smoothing": _label_smoothing,
    "weight_decay": _weight_decay,
    "backbone_lr": _backbone_lr,
    "mask_loss": _mask_loss,
    "box_weight": _box_weight,
}
"""Builders of the parameters of `--search`; an empty list where a parameter does not apply."""
