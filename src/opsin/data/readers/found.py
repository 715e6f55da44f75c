"""A data set as read, before splits are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opsin.data.samples import Source
from opsin.types import SplitName, TaskName


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A data set as its publisher divides it: named splits, or one undivided pool.

    Exactly one of `splits` and `pool` is given.
    """

    name: str
    task: TaskName
    classes: tuple[str, ...]
    layout: str
    splits: Mapping[SplitName, Source] = field(default_factory=dict)
    pool: Source | None = None
    published: bool = False
    root: Path | None = None
    notes: tuple[str, ...] = ()
    description: str = ""
    near_copies_kept: bool = False
