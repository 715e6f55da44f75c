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
    cells: list[dict[str, Any]] = []
    for kind, source in lab_cells(module):
        cells.append(words_cell(source, len(cells)) if kind == "markdown" else code_cell(source, len(cells)))
        cells += [code_cell(f"book.ask({found})", len(cells)) for found in ASKED.findall(source)]
        if not any("open_book" in "".join(cell["source"]) for cell in cells) and "import" in source:
            opened = f'import opsin.labs\n\nbook = opsin.labs.open_book("{lab.name}", quick=True)'
            cells.append(code_cell(opened, len(cells)))
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


def code_cell(source: str, number: int) -> dict[str, Any]:
    """A cell of code that has not been run, with its place in the notebook."""
    return words_cell(source, number) | {"cell_type": "code", "outputs": [], "execution_count": None}


def words_cell(source: str, number: int) -> dict[str, Any]:
    """A cell of Markdown, with its place in the notebook."""
    lines = source.splitlines(keepends=True)
    return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": lines}


def save(cells: Sequence[dict[str, Any]], path: Path) -> Path:
    """Write cells as a notebook (format 4.5).

    Raises:
        WriteError: the file cannot be written.
    """
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {"cells": list(cells), "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode("utf-8"))
    return path
