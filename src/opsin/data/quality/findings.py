"""What an audit says: one finding each, and how grave it is.

error     training would refuse the data set, with the settings that it was loaded with
warning   training goes on, but something is likely wrong, or scores will be n/a or too good
info      worth knowing
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
NUM_NAMED = 20
IMBALANCE = 10
"""Ratio of the largest to the smallest class from which balance is worth a warning."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found; `samples` names what is concerned, the first of them, `count` counts it all."""

    kind: str
    severity: Severity
    message: str
    count: int = 0
    samples: tuple[str, ...] = ()


def percent(share: float) -> str:
    """A share in words.

    >>> percent(0.429), percent(0.0004), percent(0.0)
    ('42.9%', 'under 0.1%', '0.0%')
    """
    return "under 0.1%" if 0 < share < 0.001 else f"{share:.1%}"
