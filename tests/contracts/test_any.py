"""The use of `Any` outside the codec does not grow."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

MOST = 457
"""Lower it when lines go; docs/architecture.md records it too, and how often an alias stands for it."""


def module() -> ModuleType:
    """`any_lines.py` of this folder."""
    path = Path(__file__).with_name("any_lines.py")
    spec = importlib.util.spec_from_file_location("any_lines", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_any_outside_the_codec_does_not_grow() -> None:
    any_lines = module()
    found = any_lines.counts()
    outside = sum(found.values()) - found.get(any_lines.CODEC, 0)
    top = ", ".join(f"{name} {count}" for name, count in list(found.items())[:20])
    assert outside <= MOST, f"{outside} lines use Any, at most {MOST} before; by file: {top}"


def test_lines_in_quotes_count_and_imports_do_not() -> None:
    source = 'from typing import Any\nx: dict[str, Any] = {}\ny: "Any" = 1\n# Any\n'
    assert module().any_lines(source) == {2, 3}
