"""Where each setting of a run comes from: settings come in layers, and the last that has one decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opsin import config as settings_of
from opsin.config import RunConfig

Layer = tuple[str, Mapping[str, Any]]
"""Where settings come from, in words, and the settings."""


def merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """The settings of all layers; a later layer wins."""
    return {key: value for _, layer in layers for key, value in layer.items()}


def settings_origins(layers: Iterable[Layer]) -> dict[str, str]:
    """By setting the words of the layer that decides it, for those that are not at their plain default.

    >>> settings_origins([("the data", {"epochs": 5, "lr": 0.1}), ("you", {"epochs": 7})])
    {'epochs': 'you', 'lr': 'the data'}
    """
    found: dict[str, str] = {}
    plain = settings_of.flat(RunConfig())
    values: dict[str, Any] = {}
    for words, layer in layers:
        for key, value in settings_of.completed(layer).items():
            found[key], values[key] = words, value
    return {key: words for key, words in found.items() if values[key] != plain[key]}
