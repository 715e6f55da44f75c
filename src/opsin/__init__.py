"""Opsin: from images to a convolutional network that is trained, measured, understood and put to use.

Importing this package imports neither torch nor anything else that is heavy: names are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from opsin.data.load import load as load

_HOME = {
    "load": "opsin.data.load",
}
"""Where each public name lives."""

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'opsin' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
