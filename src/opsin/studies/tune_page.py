"""The page of a search."""

from __future__ import annotations

from typing import Any


def write_tune_page(result: Any, space: Any, base: Any) -> None:
    """Later."""
