"""Changes of a run's settings, as a user names them: to drop a part, or to swap a setting for another value."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from opsin import config as settings_of
from opsin.config import AugmentConfig, ModelConfig, RunConfig
from opsin.errors import ConfigError, nearest
from opsin.models.registry import get_entry
from opsin.studies.space import MEASURED_BY, check
from opsin.training.setup.defaults import OPTIMIZERS

AUGMENT = "augment"
"""The name that drops all augmentation as one part."""
ABLATED = frozenset(settings_of.setting_names()) - (MEASURED_BY - {"restore_best", "normalize"})
OFF: Mapping[str, Any] = {
    **{name: value for name, value in asdict(AugmentConfig()).items() if name not in ("shift_fill", "policy_ops")},
    "batch_norm": False,
    "conv_dropout": 0.0,
    "dense_dropout": 0.0,
    "dropout": 0.0,
    "separable": False,
    "second_conv": "none",
    "response_norm": False,
    "skips": False,
    "dense": (),
    "normalize": "none",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "l2": 0.0,
    "schedule": "constant",
    "warmup": 0.0,
    "ema": 0.0,
    "label_smoothing": 0.0,
    "class_weights": False,
    "learn_weights": False,
    "clip": 0.0,
    "patience": 0,
    "restore_best": False,
    "resolutions": None,
    "weights": None,
    "head_start": False,
    "head": None,
    "train_norms": False,
    "lr_decay": 1.0,
}
"""Settings of each part when it is off."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change: its `name`, the `settings` that it overrides, and its consequences in `words`."""

    name: str
    settings: Mapping[str, Any]
    words: str = ""


def parse_drops(texts: Sequence[str], config: RunConfig) -> list[Change]:
    """The changes of `--drop augment,ema`.

    Raises:
        ConfigError: no such part, or it is off already.
    """
    names = [name.strip().replace("-", "_") for text in texts for name in text.split(",")]
    return [_drop(name, config) for name in names]


def _drop(name: str, config: RunConfig) -> Change:
    present = effective(config)
    if name == AUGMENT:
        settings = {key: value for key, value in OFF.items() if key in asdict(AugmentConfig())}
    elif name in OFF:
        settings = {name: OFF[name]}
    else:
        parts = [AUGMENT, *OFF]
        close = nearest(name, parts)
        do = f"did you mean `{close}`?" if close else "--swap SETTING=VALUE changes any setting"
        raise ConfigError("no part of this name can be dropped", got=name, expected=", ".join(parts), do=do)
    if name == "weights":
        settings |= {"from_scratch": True, "head_start": False, "finetune": "all", "normalize": "standard"}
    _check_option(name, config)
    if all(_plain(present.get(key)) == _plain(value) for key, value in settings.items()):
        raise ConfigError(f"`{name}` is off already", got=present.get(name), do="leave it out")
    check(config, settings, where=f"--drop {name}")
    return Change(name=f"no {name}", settings=settings)


def parse_swaps(texts: Sequence[str], config: RunConfig) -> list[Change]:
    """The changes of `--swap optimizer=sgd`; `--swap filters=32,64+epochs=20` is one change of two settings.

    An optimizer brings its default rate, momentum and weight decay, unless they are given too.

    Raises:
        ConfigError: another form, an unknown setting, an invalid value, or one that changes nothing.
    """
    return [_swap(text, config) for text in texts]


def _swap(text: str, config: RunConfig) -> Change:
    given = dict(_assignment(part, text) for part in text.split("+"))
    companions: dict[str, Any] = {}
    if (name := given.get("optimizer")) in OPTIMIZERS:
        companions = {key: value for key, value in OPTIMIZERS[str(name)].items() if key not in given}
    if "model" in given:  # the options of one network mean nothing to another
        get_entry(str(given["model"]))
        companions |= {key: None for key in settings_of.field_names(ModelConfig) if key not in given}
    settings = companions | given
    check(config, settings, where=f"--swap {text}")
    for key in given:
        _check_option(key, config if "model" not in given else None)
    present = effective(config)
    if all(_plain(present.get(key)) == _plain(value) for key, value in given.items()):
        raise ConfigError("the swap changes nothing", got=text, do="give another value, or leave it out")
    shown = ", ".join(f"{key} {value:g}" for key, value in companions.items() if value is not None)
    return Change(name=text.replace("+", " + "), settings=settings, words=f"with {shown}" if shown else "")


def _assignment(part: str, text: str) -> tuple[str, Any]:
    """Setting and value from `lr=0.1`; lists of numbers need no brackets, and names no quotes."""
    name, equals, value = (piece.strip() for piece in part.partition("="))
    name = name.replace("-", "_")
    if not equals or not name or not value:
        raise ConfigError("the swap is invalid", got=text, expected="e.g. optimizer=sgd, or filters=32,64")
    if name not in ABLATED:
        if name in settings_of.setting_names():
            do = "give it to the whole ablation: scores of all its runs must be comparable"
            raise ConfigError(f"setting `{name}` cannot be swapped", got=text, do=do)
        close = nearest(name, ABLATED)
        raise ConfigError(
            f"unknown setting `{name}`",
            got=text,
            do=f"did you mean `{close}`?" if close else "`opsin train --help` lists them",
        )
    return name, parse_value(name, value)


def parse_value(name: str, text: str) -> Any:
    """The value of a setting as a user types it.

    >>> parse_value("filters", "32,64"), parse_value("lr", "1e-3"), parse_value("optimizer", "sgd")
    ([32, 64], 0.001, 'sgd')
    """
    if name in ("filters", "dense", "resolutions", "head"):
        text = f"[{'' if text == 'none' else text}]"
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_option(name: str, config: RunConfig | None) -> None:
    """Refuse an option of networks that this one does not have."""
    if config is None or name not in settings_of.field_names(ModelConfig) or name == "model":
        return
    entry = get_entry(config.model.model)
    if name not in entry.option_names:
        raise ConfigError(
            f"network `{config.model.model}` has no option `{name}`", expected=", ".join(entry.option_names)
        )


def effective(config: RunConfig) -> dict[str, Any]:
    """All settings as one flat layer, options that are left open at the network's defaults."""
    values, options = settings_of.flat(config), get_entry(config.model.model).options
    names = settings_of.field_names(ModelConfig)
    return {key: options.get(key) if value is None and key in names else value for key, value in values.items()}


def together(changes: Sequence[Change]) -> Change:
    """All changes at once; later ones override earlier ones."""
    settings = {key: value for change in changes for key, value in change.settings.items()}
    return Change(name="all together", settings=settings)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
