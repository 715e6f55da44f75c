"""The type of a report section."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from opsin.report.view import View


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: `show` returns its markup, or None, in which case the page shows `empty`."""

    key: str
    title: str
    show: Callable[[View], Markup | None]
    empty: str
