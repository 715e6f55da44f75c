"""Lines of src/opsin that use `Any`, by file: `python tests/contracts/any_lines.py`. Imports of it do not count."""

from __future__ import annotations

import ast
from pathlib import Path

import opsin

ROOT = Path(opsin.__file__).parent
CODEC = "runs/codec.py"
"""Parses whatever a file holds; counted apart."""


def any_lines(source: str) -> set[int]:
    """Numbers of the lines on which `Any` is used, in code and in quoted annotations."""
    used = {node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and node.id == "Any"}
    quoted = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return used | {node.lineno for node in quoted if node.value == "Any"}


def counts() -> dict[str, int]:
    """Number of such lines of each file that has any, most first."""
    found = {str(file.relative_to(ROOT)): len(any_lines(file.read_text())) for file in ROOT.rglob("*.py")}
    return dict(sorted(((file, n) for file, n in found.items() if n), key=lambda item: (-item[1], item[0])))


if __name__ == "__main__":
    for name, number in counts().items():
        print(f"{number:4}  {name}")
    print(f"{sum(counts().values()) - counts()[CODEC]:4}  outside {CODEC}")
