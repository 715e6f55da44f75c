"""What an answer of a lab may cite: tables, figures and runs; and the numbers that stand in words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from opsin.io.files import as_json
from opsin.report.formats import number, percent
from opsin.runs import Run
from opsin.types import Score

Cell: TypeAlias = Score | str | int | float | bool | None
"""A score is a share, shown as a percentage, with its interval where it has one; other numbers are as they are."""
NUMBER = re.compile(r"(?<![\w.,])(?<![A-Za-z]-)\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")
"""A number in words; digits of a name, as in `conv2d` or ResNet-50, are none."""
PUBLISHED = "published"
"""A column whose name holds this word holds what others measured, or whether ours is the same."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells. `note`: what a reader must know of them."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def shown(self) -> list[list[str]]:
        """The rows as a page has them."""
        return [[shown(cell) for cell in row] for row in self.rows]

    @property
    def measured(self) -> set[str]:
        """Numbers of this table that were measured or computed: all but those of columns of published ones."""
        own = [place for place, column in enumerate(self.columns) if PUBLISHED not in column.casefold()]
        cells = [row[place] for row in self.shown for place in own]
        return numbers_in(" ".join([self.title, *(self.columns[place] for place in own), *cells, self.note]))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: cells as numbers, and as they are shown."""
        rows = [[plain(cell) for cell in row] for row in self.rows]
        about = {"name": self.name, "title": self.title, "columns": list(self.columns), "note": self.note}
        return about | {"rows": rows, "shown": self.shown}


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """Pictures with captions (uint8 [C, h, w]), or lines over epochs: `lines` are (epoch, value) by name."""

    name: str
    title: str
    pictures: tuple[tuple[str, NDArray[np.uint8]], ...] = ()
    lines: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    share: bool = False


Evidence: TypeAlias = Table | Figure | Run


def name_of(part: Evidence) -> str:
    """How an answer names a part of its evidence: its kind and name."""
    if isinstance(part, Table):
        return f"table {part.name}"
    return f"figure {part.name}" if isinstance(part, Figure) else f"run {part.name}"


def shown(cell: Cell) -> str:
    """A cell as a page has it.

    >>> shown(Score(0.9833, 0.961, 0.994)), shown(9027000), shown(0.000123456)
    ('98.3 % [96.1, 99.4]', '9,027,000', '0.0001235')
    """
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Score):
        return number(cell, 4)
    if math.isnan(cell.low):
        return percent(cell.value)
    return f"{percent(cell.value)} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def plain(cell: Cell) -> Any:
    """A cell as plain JSON values."""
    return as_json(vars(cell)) if isinstance(cell, Score) else as_json(cell)


def numbers_in(text: str) -> set[str]:
    """Numbers that stand in a text, as they are written but for commas between thousands.

    >>> sorted(numbers_in("Conv2D gives 98.3 % of 1,797."))
    ['1797', '98.3']
    """
    return {found.replace(",", "") for found in NUMBER.findall(text)}
