"""A lab as a notebook: the cells of its file, and after each question a cell that asks it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from opsin.io.files import write_atomically
from opsin.labs.lab import Lab

CELL = re.compile(r"^# %%(?: \[(\w+)\])?.*\n", re.MULTILINE)
"""Where a cell begins in a file of the percent format; "markdown" in brackets marks words."""
ASKED = re.compile(r"^@question\(.*?^def (\w+)\(", re.MULTILINE | re.DOTALL)


def write_notebook(lab: Lab, module: str, path: Path) -> Path:
    """Write the notebook (format 4.5) of a lab whose file is the module of that name.

    Raises:
        WriteError: the file cannot be written.
    """
    cells: list[tuple[str, str]] = []
    for kind, source in lab_cells(module):
        cells.append((kind, source))
        cells += [("code", f"book.ask({found})") for found in ASKED.findall(source)]
        if not any("open_book" in text for _, text in cells) and "import" in source:
            cells.append(("code", f'import opsin.labs\n\nbook = opsin.labs.open_book("{lab.name}", quick=True)'))
    return save(cells, path)


def lab_cells(module: str) -> list[tuple[str, str]]:
    """The cells of the file of a lab: (kind, source)."""
    package, _, name = module.rpartition(".")
    return split_cells((files(package) / f"{name}.py").read_text(encoding="utf-8"))


def split_cells(text: str) -> list[tuple[str, str]]:
    """The cells of a percent-format file: (kind, source); what stands before the first mark is code.

    >>> split_cells("# %% [markdown]\\n# # Title\\n# %%\\nx = 1\\n")
    [('markdown', '# Title'), ('code', 'x = 1')]
    """
    marks = list(CELL.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    found = [("code", text[: marks[0].start()].strip())] if marks and text[: marks[0].start()].strip() else []
    for mark, end in zip(marks, ends, strict=True):
        source = text[mark.end() : end].strip()
        if mark[1] == "markdown":
            source = "\n".join(re.sub(r"^# ?", "", line) for line in source.splitlines())
        found.append(("markdown" if mark[1] == "markdown" else "code", source))
    return found


def save(cells: Sequence[tuple[str, str]], path: Path) -> Path:
    """Write cells, each its kind ("code" or "markdown") and source, as a notebook (format 4.5).

    Raises:
        WriteError: the file cannot be written.
    """
    made = [_cell(kind, source, number) for number, (kind, source) in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode("utf-8"))
    return path


def _cell(kind: str, source: str, number: int) -> dict[str, Any]:
    made = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source.splitlines(keepends=True)}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})
