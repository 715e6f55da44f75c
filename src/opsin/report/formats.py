"""Formatting of numbers: few digits, with the unit."""

from __future__ import annotations

import math
from typing import Any

from opsin.types import Score
from opsin.units import bytes_text

NOT_AVAILABLE = "n/a"


def number(value: Any, digits: int = 3) -> str:
    """A number with `digits` significant digits, thousands separated.

    >>> number(12345.6), number(0.000123456), number(None)
    ('12,346', '0.000123', 'n/a')
    """
    if not is_number(value):
        return NOT_AVAILABLE
    if isinstance(value, int) or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def percent(value: Any, decimals: int = 1) -> str:
    """A share as a percentage; a share below 1 is never rounded up to 100 %.

    >>> percent(0.98765), percent(0.99999), percent(1.0), percent(math.nan)
    ('98.8 %', '99.9 %', '100 %', 'n/a')
    """
    if not is_number(value):
        return NOT_AVAILABLE
    shown = round(100 * value, decimals)
    if shown >= 100 and value < 1 - 1e-9:
        shown = 100 - 10**-decimals
    return "100 %" if shown == 100 else f"{shown:.{decimals}f} %"


def decimals_for(score: Score) -> int:
    """Decimals of a percentage that its interval justifies: two when it is narrower than one point."""
    return 2 if score.high - score.low < 0.01 else 1


def duration(seconds: Any) -> str:
    """A time in the two largest units that matter.

    >>> duration(7.3), duration(133), duration(7260)
    ('7.3 s', '2 min 13 s', '2 h 1 min')
    """
    if not is_number(seconds):
        return NOT_AVAILABLE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: Any) -> str:
    """A number of bytes, in the units of `opsin plan` and of all messages.

    >>> size(1536), size(None)
    ('1.5 KB', 'n/a')
    """
    return bytes_text(num_bytes) if is_number(num_bytes) else NOT_AVAILABLE


def plain(value: Any) -> str:
    """A JSON value as words: settings, tuples, switches.

    >>> plain(True), plain(None), plain([16, 32]), plain(1e-05)
    ('yes', '–', '16, 32', '1e-05')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value) or "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def shorten(text: str, length: int) -> str:
    """`text`, or its beginning and an ellipsis, in at most `length` characters.

    >>> shorten("ranunculus", 7)
    'ranunc…'
    """
    return text if len(text) <= length else text[: max(1, length - 1)] + "…"


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number (a JSON null and NaN are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
