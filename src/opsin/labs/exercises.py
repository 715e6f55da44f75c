"""A lab as an exercise: a notebook with questions and scaffold, a student's answers, and whether they agree.

An answer is compared with what the lab's own functions measure on the student's runs. Nothing is looked up, and the
check tells which answers agree, never what the right one is.
"""

from __future__ import annotations

import ast
import builtins
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from opsin.errors import ConfigError, OpsinError
from opsin.io.files import read_json
from opsin.labs.cells import lab_cells, save
from opsin.labs.evidence import Cell, Table, numbers_in
from opsin.labs.lab import ANSWERS, Book, Found, Lab, Question
from opsin.types import Score

HOW_TO = """**How to answer.** Train and measure with the code below and the library, then put your value in place of each `None`
and run the cell. A number may be rounded, and a share given as a percentage; a difference in points has its sign. Answers are
compared with what your own runs give, in the last cell or by `opsin lab check`."""
"""Stands before the first cell that is run."""
WITHIN = 0.05
"""A rounded number is within this share of the measured one, however few digits it has."""
TELLING = {*dir(builtins), "agreement", "canvas", "most", "partial", "told"}
"""Functions of which an exercise does not speak: they put measured values into words and pictures."""
Verdict: TypeAlias = Literal["agrees", "differs", "not answered", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What became of a student's answer to one question. `wrong`, `open`: names of values that differ, or are missing.

    `note`: what to do where it was not measured.
    """

    name: str
    question: str
    verdict: Verdict
    wrong: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**vars(self), "wrong": list(self.wrong), "open": list(self.open)}


def write_exercise(lab: Lab, module: str, folder: Path, *, quick: bool = True, root: str | None = None) -> Path:
    """Write `NAME.ipynb` into a folder: the cells of the lab's file without those that answer its questions.

    What is trained and answered lies beside the notebook, wherever it is taken.

    Raises:
        WriteError: the file cannot be written.
    """
    form = f"quick={quick}, root={root!r}"
    first = f'import opsin.labs\n\nbook = opsin.labs.open_book({lab.name!r}, {form}, out=".")'
    told = f'for checked in opsin.labs.check({lab.name!r}, ".", {form}):\n    print(checked.verdict, checked.question)'
    cells: list[tuple[str, str]] = []
    for kind, source in lab_cells(module):
        if kind == "markdown":
            cells.append((kind, source))
            continue
        helps, rest = _without_questions(source)
        if rest:
            cells.append(("code", rest))
        for asked in (part for part in lab.questions if part.name in helps):
            cells += _to_answer(asked, helps[asked.name])
        if "import" in source and not any("open_book" in text for _, text in cells):
            cells += [("markdown", HOW_TO), ("code", first)]
    cells += [("markdown", "## Check\n\nThe same as `opsin lab check`: nothing is trained by it."), ("code", told)]
    return save(cells, folder / f"{lab.name}.ipynb")


def check_answers(book: Book) -> tuple[Checked, ...]:
    """Which of the answers beside a book's runs agree with what the lab measures on these runs.

    Args:
        book: that trains nothing (`trains=False`).

    Raises:
        ConfigError: no answer has been given there.
    """
    path = book.folder / ANSWERS
    if not path.is_file():
        raise ConfigError("no answers are here", where=path, do="write them with `book.answer` in the notebook")
    given = read_json(path)
    return tuple(_checked(book, asked, given.get(asked.name, {})) for asked in book.lab.questions)


def agrees(given: object, measured: Cell) -> bool:
    """Whether a student's value is the measured one, at the digits that it is given with.

    A share may be given as such or as a percentage. Whole numbers are exact; words are compared without case.

    >>> agrees(94.4, Score(0.9437)), agrees("0.94", Score(0.9437)), agrees(95, Score(0.9437)), agrees("no", False)
    (True, True, False, True)
    """
    if isinstance(measured, bool) or measured is None or (isinstance(measured, str) and not numbers_in(measured)):
        return _word(given) == _word(measured)
    text = str(given).replace("%", "").replace(",", "").replace(" ", "").removeprefix("+")
    value = _number(text)
    if value is None:
        return _word(given) == _word(measured)
    wanted = _numbers_of(measured)
    exact = isinstance(measured, int)
    return any(known is not None and (value == known if exact else _rounded(text, value, known)) for known in wanted)


def _numbers_of(measured: Cell) -> list[float | None]:
    """The numbers by which a measured value may be given: a share, also one that is written in %, by two."""
    if isinstance(measured, Score):
        return [measured.value, 100 * measured.value]
    value = _number(str(measured).removesuffix("%").strip())
    return [value, value / 100] if value is not None and str(measured).endswith("%") else [value]


def _checked(book: Book, asked: Question, given: Mapping[str, Any]) -> Checked:
    names = asked.blanks
    still = tuple(name for name in names if given.get(name) in (None, ""))
    if len(still) == len(names):
        return Checked(name=asked.name, question=asked.text, verdict="not answered", open=still)
    try:
        found = asked.measure(book)
    except OpsinError as error:
        return Checked(name=asked.name, question=asked.text, verdict="not measured", note=str(error))
    wrong = tuple(name for name in names if name not in still and not _is_right(found, name, given[name]))
    verdict: Verdict = "differs" if wrong else "not answered" if still else "agrees"
    return Checked(name=asked.name, question=asked.text, verdict=verdict, wrong=wrong, open=still)


def _is_right(found: Found, name: str, given: object) -> bool:
    """Whether one value agrees; of an answer in words, whether all its numbers were measured, and ours are among them."""
    if name in found.values:
        return agrees(given, found.values[name])
    said = numbers_in(str(given))
    measured: set[str] = set().union(*(part.measured for part in found.evidence if isinstance(part, Table)))
    return bool(said) and said <= measured and numbers_in(found.ours) <= said


def _to_answer(asked: Question, helps: Sequence[str]) -> list[tuple[str, str]]:
    """The cells of a question: its words with functions that help to measure it, and one with what is to be filled in."""
    hint = f"\n\nOf use: {', '.join(f'`{name}`' for name in helps)}." if helps else ""
    blanks = "\n".join(f"    {name!r}: None," for name in asked.blanks)
    scaffold = f"# measure it here\n\nbook.answer({asked.name!r}, {{\n{blanks}\n}})"
    return [("markdown", f"**{asked.text}**{hint}"), ("code", scaffold)]


def _without_questions(source: str) -> tuple[dict[str, tuple[str, ...]], str]:
    """The questions in a cell, each with what `_called` by it, and the cell without their functions, published figures and
    the lab itself."""
    lines = source.splitlines()
    found: dict[str, tuple[str, ...]] = {}
    for node in reversed(ast.parse(source).body):
        marks = node.decorator_list if isinstance(node, ast.FunctionDef) else []
        begin = min([node.lineno, *(mark.lineno for mark in marks)])
        if isinstance(node, ast.FunctionDef) and any("question" in ast.unparse(mark) for mark in marks):
            found[node.name] = _called(node)
        elif not (isinstance(node, ast.Assign | ast.AnnAssign) and _is_told(node)):
            continue
        del lines[begin - 1 : node.end_lineno]
    return found, re.sub(r"\n{3,}", "\n\n\n", "\n".join(lines).strip())


def _called(function: ast.FunctionDef) -> tuple[str, ...]:
    """The functions that a question calls, but for Python's own and those that write the answer down."""
    parts = (part for statement in function.body for part in ast.walk(statement))
    names = dict.fromkeys(ast.unparse(part.func) for part in parts if isinstance(part, ast.Call))
    return tuple(name for name in names if name not in TELLING and re.fullmatch(r"[a-z]\w*|opsin(\.[a-z]\w*)+", name))


def _is_told(node: ast.Assign | ast.AnnAssign) -> bool:
    """Whether an assignment is of the lab itself, or of what was published, which would tell answers."""
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    return ast.unparse(target) == "LAB" or ast.unparse(target).startswith("PUBLISHED")


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "").removeprefix("+"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _rounded(text: str, value: float, known: float) -> bool:
    """Whether `value`, written as `text`, is `known` rounded to its digits."""
    mantissa, _, exponent = text.casefold().partition("e")
    digits = len(mantissa.partition(".")[2])
    half = 0.5 * 10.0 ** (int(exponent or 0) - digits)
    return abs(value - known) <= min(half, WITHIN * abs(known)) * (1 + 1e-9) or value == known


def _word(value: object) -> str:
    words = {True: "yes", False: "no"}
    return words[value] if isinstance(value, bool) else str(value).strip().casefold()
