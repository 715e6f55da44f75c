"""Recipes that studies write: settings in TOML, with a comment on their origin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opsin.io.files import write_atomically
from opsin.text import printable_lines

OF_THE_MACHINE = (
    "seed",
    "threads",
    "device",
    "preflight",
    "keep_memory",
    "tensorboard",
    "checkpoint_minutes",
    "checkpoint_activations",
)
"""Settings that do not affect results, or that the user of a recipe chooses."""


def write_recipe(path: Path, settings: Mapping[str, Any], comments: Sequence[str]) -> None:
    """Write settings as a recipe that `opsin train --recipe` takes.

    Args:
        path: the file; an existing one is replaced.
        settings: a flat layer; None is left out, since TOML has no null.
        comments: lines of the comment above the settings.

    Raises:
        WriteError: it cannot be written.
    """
    kept = {key: value for key, value in settings.items() if value is not None and key not in OF_THE_MACHINE}
    heads = [f"# {line}" for text in comments for line in printable_lines(text).splitlines()]
    lines = [*heads, *(f"{key} = {toml_value(value)}" for key, value in kept.items())]
    write_atomically(path, ("\n".join(lines) + "\n").encode("utf-8"))


def toml_value(value: Any) -> str:
    """A setting's value as TOML.

    >>> toml_value(True), toml_value(0.001), toml_value([32, 64]), toml_value("a\\"b")
    ('true', '0.001', '[32, 64]', '"a\\\\"b"')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value)  # TOML basic strings accept every escape of JSON
    return repr(value)
