"""Findings of an audit, and their severity.

error     training would refuse the data set with the settings it was loaded with
warning   training continues, but something is likely wrong, or scores will be n/a or too high
info      worth knowing
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
NUM_NAMED = 20
IMBALANCE = 10
"""Ratio of the largest to the smallest class from which imbalance is a warning."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding; `samples` names the first affected samples, `count` is the total."""

    kind: str
    severity: Severity
    message: str
    count: int = 0
    samples: tuple[str, ...] = ()


def percent(share: float) -> str:
    """A share as text.

    >>> percent(0.429), percent(0.0004), percent(0.0)
    ('42.9%', 'under 0.1%', '0.0%')
    """
    return "under 0.1%" if 0 < share < 0.001 else f"{share:.1%}"
