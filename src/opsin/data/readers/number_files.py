"""A table of images with one or more numbers each.

The columns are those that the setting `number_columns` names; by default `value`, or `values`, with several numbers
separated by `;` or `|`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opsin.data.readers.folders import check_table_files, table_splits
from opsin.data.readers.found import Found
from opsin.data.readers.place import Place
from opsin.data.sources import FileSource
from opsin.errors import DataError, nearest
from opsin.types import TaskName

TASK: TaskName = "regress"
ONE, SEVERAL = "value", "values"
DELIMITERS = (";", "|")
NUM_NAMED = 10


def holds_numbers(place: Place) -> bool:
    """Whether a table is one of numbers, by its columns; any table is where the task is asked for."""
    named = {ONE, SEVERAL} & set(place.columns) and "label" not in place.columns
    return place.task == TASK or bool(place.config.number_columns or named)


def read_numbers(place: Place) -> Found:
    """A table of numbers.

    Other columns are ignored, with a note.

    Raises:
        DataError: a column is missing, or contains a value that is not a number.
    """
    path, rows, columns, wanted = place.path, place.rows, place.columns, place.config.number_columns
    known = wanted or next(((name,) for name in (ONE, SEVERAL) if name in columns), ())
    missing = [name for name in ("path", *(known or (ONE,))) if name not in columns]
    if missing:
        close = nearest(missing[0], columns)
        do = f"did you mean `{close}`?" if close else "name the columns: --number-columns age,height"
        raise DataError("required columns are missing", where=path, got=columns, expected=missing, do=do)
    names, numbers = _several(rows, path) if known == (SEVERAL,) and not wanted else (known, _table(rows, known, path))
    source = FileSource(
        paths=[path.parent / row["path"].strip() for row in rows],
        ids=[row["path"].strip() for row in rows],
        numbers=numbers,
        groups=[row["group"].strip() for row in rows] if "group" in columns else None,
    )
    check_table_files(source, path)
    divided = "split" in columns
    unused = [name for name in columns if name not in ("path", "split", "group", *known)]
    return Found(
        name=path.stem,
        task=TASK,
        classes=names,
        layout=f"table of {len(rows)} paths and {', '.join(names)}" + (", with splits" if divided else ", undivided"),
        splits=table_splits(source, [row["split"] for row in rows], path) if divided else {},
        pool=None if divided else source,
        root=path,
        notes=(f"ignored columns: {', '.join(unused)}",) if unused else (),
    )


def _table(rows: Sequence[Mapping[str, str]], names: Sequence[str], path: Path) -> NDArray[np.float32]:
    """Numbers float32 [N, M] of the columns `names`."""
    texts = [[row[name] for name in names] for row in rows]
    return _parsed(texts, path)


def _several(rows: Sequence[Mapping[str, str]], path: Path) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names value_1 to value_M, and the numbers of one column that holds several."""
    delimiter = next((d for d in DELIMITERS if any(d in row[SEVERAL] for row in rows)), DELIMITERS[0])
    texts = [row[SEVERAL].split(delimiter) for row in rows]
    count = len(texts[0])
    wrong = [i + 2 for i, several in enumerate(texts) if len(several) != count]
    if wrong:
        where = f"{path}, lines {', '.join(map(str, wrong[:NUM_NAMED]))}"
        raise DataError("rows have different numbers of values", where=where, expected=f"{count}, as in the first row")
    return tuple(f"value_{k + 1}" for k in range(count)), _parsed(texts, path)


def _parsed(texts: Sequence[Sequence[str]], path: Path) -> NDArray[np.float32]:
    numbers = np.full((len(texts), len(texts[0])), np.nan, np.float32)
    wrong: list[str] = []
    for i, row in enumerate(texts):
        try:
            numbers[i] = [float(text) for text in row]
        except ValueError:
            wrong.append(f"line {i + 2}: {', '.join(row)}")
    bad = [*wrong, *(f"line {i + 2}" for i in np.flatnonzero(~np.isfinite(numbers).all(axis=1)) if not wrong)]
    if bad:
        raise DataError(
            f"{len(bad)} rows contain no finite number",
            where=f"{path}: {'; '.join(bad[:NUM_NAMED])}",
            expected="a number in each row, with a decimal point",
        )
    return numbers
