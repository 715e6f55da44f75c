"""Opsin: from images to a convolutional network that is trained, measured, understood and put to use.

Importing this package imports neither torch nor anything else that is heavy: names are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from opsin.openmp import set_waiting

__version__ = "0.2.0"

if TYPE_CHECKING:
    from opsin.api import train as train
    from opsin.data.load import load as load
    from opsin.evaluation import evaluate as evaluate
    from opsin.report import write_report as write_report
    from opsin.runs import Run as Run
    from opsin.training.lr_finder import find_lr as find_lr
    from opsin.training.normalization import compare_normalizations as compare_normalizations

_HOME = {
    "Run": "opsin.runs",
    "compare_normalizations": "opsin.training.normalization",
    "evaluate": "opsin.evaluation",
    "find_lr": "opsin.training.lr_finder",
    "load": "opsin.data.load",
    "train": "opsin.api",
    "write_report": "opsin.report",
}
"""Where each public name lives."""

__all__ = ["Run", "compare_normalizations", "evaluate", "find_lr", "load", "train", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'opsin' has no attribute '{name}'")
    set_waiting()  # the modules import torch, which asks once
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
