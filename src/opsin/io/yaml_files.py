"""YAML from outside: plain values alone, without tags of types, aliases (of which bombs are made) and deep nesting."""

from __future__ import annotations

from typing import Any

import yaml

from opsin.errors import AnnotationError
from opsin.io.files import PathLike
from opsin.io.gate import MEBIBYTE, read_bytes, refusing

MAX_BYTES = MEBIBYTE
MAX_DEPTH = 16


def read_yaml(path: PathLike, max_bytes: int = MAX_BYTES) -> Any:
    """The value in a YAML file.

    Raises:
        AnnotationError: no YAML, with aliases or tags, nested deeper than 16, or too long.
    """
    data = read_bytes(path, AnnotationError, max_bytes)
    with refusing(AnnotationError, path, "not a readable YAML file"):
        text = data.decode("utf-8-sig")
        _check_events(text)
        return yaml.safe_load(text)


def _check_events(text: str) -> None:
    """Refuse aliases and deep nesting while the text is scanned, before any value is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("an alias")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
