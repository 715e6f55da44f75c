"""Labels from outside: CSV tables, lists of names and XML annotations; CSV tables of results. JSON is in `files`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from defusedxml import ElementTree

from opsin.errors import AnnotationError
from opsin.io.files import PathLike, write_atomically
from opsin.io.gate import MEBIBYTE, printable, read_bytes, refusing

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_TABLE_BYTES = 64 * MEBIBYTE
MAX_ROWS = 1_000_000
MAX_COLUMNS = 1000
MAX_XML_BYTES = 16 * MEBIBYTE
MAX_XML_DEPTH = 64
DELIMITERS = ",;\t"
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that spreadsheets take for a formula: also with the wide signs of East Asian writing."""


def read_table(path: PathLike, max_bytes: int = MAX_TABLE_BYTES, max_rows: int = MAX_ROWS) -> list[dict[str, str]]:
    """The rows of a CSV file (UTF-8) by the names in its first line.

    The delimiter is the comma, semicolon or tab that the first line has most of. Blank lines are skipped; spaces around
    names and values are kept out.

    Raises:
        AnnotationError: no text, no rows, a column without a name or named twice, or a row of another length (its line
            is named).
    """
    data = read_bytes(path, AnnotationError, max_bytes)
    text = _decoded(data, path)
    with refusing(AnnotationError, path, "not a readable CSV file"):
        first_line = text.splitlines()[0] if text else ""
        delimiter = max(DELIMITERS, key=first_line.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(reader, [])]
        _check_names(names, path)
        rows: list[dict[str, str]] = []
        for values in reader:
            if not values:
                continue
            if len(values) != len(names) or len(rows) >= max_rows:
                where = f"{printable(path)}, line {reader.line_num}"
                expected = f"{len(names)}, in at most {max_rows} rows"
                raise AnnotationError("wrong number of values", where=where, got=len(values), expected=expected)
            rows.append({name: value.strip() for name, value in zip(names, values, strict=True)})
    if not rows:
        raise AnnotationError("a table without rows", where=printable(path), expected="a header and at least one row")
    return rows


def write_table(path: PathLike, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file (UTF-8, commas) atomically: a line of names, then the rows.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, which makes it text there; numbers
    keep their sign.

    Raises:
        WriteError: the disk is full, faulty or forbids it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    writer.writerows([_cell(value) for value in row] for row in rows)
    write_atomically(path, text.getvalue().encode("utf-8", errors="backslashreplace"))


def _cell(value: object) -> object:
    """A value as a cell that is no formula."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def read_lines(path: PathLike, max_bytes: int = MAX_TABLE_BYTES) -> list[str]:
    """The lines of a list of names (UTF-8), without blank ones and without spaces around them.

    Raises:
        AnnotationError: no text.
    """
    text = _decoded(read_bytes(path, AnnotationError, max_bytes), path)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _decoded(data: bytes, path: PathLike) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise AnnotationError(
            "a text in another encoding",
            where=f"{printable(path)}, byte {error.start}",
            got="UTF-16" if utf16 else f"byte 0x{data[error.start]:02x}, which is no UTF-8",
            expected="UTF-8",
            do="save it as UTF-8 (in a spreadsheet: `CSV UTF-8`)",
        ) from error


def _check_names(names: list[str], path: PathLike) -> None:
    ok = 0 < len(names) <= MAX_COLUMNS and all(names) and len(set(names)) == len(names)
    if not ok or not all(name.isprintable() for name in names):
        expected = f"1 to {MAX_COLUMNS} different names"
        got = printable(names)[:300]
        raise AnnotationError("no usable header", where=f"{printable(path)}, line 1", got=got, expected=expected)


def read_xml(path: PathLike, max_bytes: int = MAX_XML_BYTES, *, max_depth: int = MAX_XML_DEPTH) -> Element:
    """The root element of an XML file. Document types, entities and outside references are refused.

    Raises:
        AnnotationError: no XML, with a document type or entities, nested deeper than `max_depth`, or too long.
    """
    data = read_bytes(path, AnnotationError, max_bytes)
    with refusing(AnnotationError, path, "not a readable XML file"):
        _check_xml_depth(data, max_depth)
        root: Element = ElementTree.fromstring(data, forbid_dtd=True)
    return root


def _check_xml_depth(data: bytes, max_depth: int) -> None:
    """Refuse deep nesting while parsing: a tree of a million levels would be built first otherwise."""
    depth = 0
    for event, element in ElementTree.iterparse(io.BytesIO(data), events=("start", "end"), forbid_dtd=True):
        depth += 1 if event == "start" else -1
        if depth > max_depth:
            raise ValueError(f"nested deeper than {max_depth}")
        if event == "end":
            element.clear()
