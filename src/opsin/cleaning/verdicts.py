"""Verdicts on suspects: a table to edit, and a new data set from it. The images and the old table are unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opsin.cleaning.suspects import Suspect
from opsin.data.samples import Source
from opsin.data.sources import FileSource
from opsin.errors import DataError, NameTakenError, nearest
from opsin.io.files import atomic_folder, write_atomically
from opsin.io.images import encode_png
from opsin.io.tables import read_table, write_table
from opsin.studies.folds import Development

COLUMNS = ("row", "id", "split", "label", "suggestion", "wrong", "reasons", "verdict")
RELABEL = "relabel="


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Parsed verdicts: `relabel`: class by row of the development samples; `drop`: rows; `keep`: rows."""

    relabel: Mapping[int, str]
    drop: frozenset[int]
    keep: frozenset[int]


def write_verdicts(path: Path, suspects: Sequence[Suspect]) -> None:
    """Write a table with a row for each suspect, whose last column is to be edited: keep, relabel=CLASS or drop.

    Raises:
        NameTakenError: the file exists: edits are not overwritten.
    """
    if path.exists():
        raise NameTakenError("the table of verdicts exists already", where=path, do="choose another --verdicts")
    rows = (
        [s.row, s.id, s.split, s.label, s.suggestion, float(f"{s.wrong:.4g}"), " ".join(s.reasons), "keep"]
        for s in suspects
    )
    write_table(path, COLUMNS, rows)


def read_verdicts(path: Path, pool: Development) -> Verdicts:
    """Read an edited table.

    Raises:
        DataError: it belongs to other data, or a verdict is invalid.
    """
    rows = read_table(path)
    if missing := [name for name in ("row", "id", "verdict") if name not in rows[0]]:
        raise DataError("the table of verdicts lacks columns", where=path, got=", ".join(rows[0]), expected=missing)
    relabel: dict[int, str] = {}
    decided: dict[str, set[int]] = {"drop": set(), "keep": set()}
    for line, entry in enumerate(rows, 2):
        where = f"{path}, line {line}"
        row = int(entry["row"]) if entry["row"].isdecimal() else -1
        if not 0 <= row < len(pool) or entry["id"].removeprefix("'") != pool.source.ids[row].strip():
            do = "create the table again: `opsin clean` on these data"
            raise DataError("a verdict names an unknown sample", where=where, got=entry["id"], do=do)
        verdict = entry["verdict"].strip()
        if verdict.startswith(RELABEL):
            relabel[row] = _class_of(verdict.removeprefix(RELABEL).strip(), pool.dataset.classes, where)
        elif verdict in decided:
            decided[verdict].add(row)
        else:
            raise DataError("an invalid verdict", where=where, got=verdict, expected="keep, drop or relabel=CLASS")
    return Verdicts(relabel=relabel, drop=frozenset(decided["drop"]), keep=frozenset(decided["keep"]))


def _class_of(name: str, classes: Sequence[str], where: str) -> str:
    if name in classes:
        return name
    close = nearest(name, classes)
    do = f"did you mean `{close}`?" if close else "use one of these"
    raise DataError("no such class", where=where, got=name, expected=", ".join(classes[:20]), do=do)


def apply_verdicts(pool: Development, verdicts: Verdicts, out: Path) -> Path:
    """Write a data set as a table from the verdicts: path, label, split, and group where there are groups.

    Images that are not files (arrays, records) are written as PNG into a folder beside the table.

    Args:
        pool: the development samples; test is copied unchanged.
        verdicts: the parsed verdicts.
        out: the new table; nothing that exists is overwritten.

    Raises:
        NameTakenError: `out` or the folder of its images exists.
        DataError: the splits cannot be expressed in a table.
    """
    dataset, images = pool.dataset, out.with_name(f"{out.stem}-images")
    for path in (out, images):
        if path.exists():
            do = "choose another name: nothing is overwritten"
            raise NameTakenError("the new data set would overwrite a file", where=path, do=do)
    splits = [(pool.source, pool.origin)]
    if (test := dataset.splits.get("test")) is not None:
        splits.append((test, ("test",) * len(test)))
    grouped = all(source.groups is not None for source, _ in splits)
    places = _places([source for source, _ in splits], images)
    rows: list[list[object]] = []
    for number, (source, origin) in enumerate(splits):
        assert source.labels is not None  # suspects have labels
        for i, split in enumerate(origin):
            if number == 0 and i in verdicts.drop:
                continue
            label = dataset.classes[source.labels[i]]
            label = verdicts.relabel.get(i, label) if number == 0 else label
            group = [source.groups[i]] if grouped and source.groups is not None else []
            rows.append([places[number][i], label, split, *group])
    _check_classes(rows, dataset.classes)
    write_table(out, ["path", "label", "split", *(["group"] if grouped else [])], rows)
    return out


def _places(sources: Sequence[Source], images: Path) -> list[list[str]]:
    """The absolute path of each sample's image; those of arrays are written."""
    if all(isinstance(source, FileSource) for source in sources):
        return [[str(path.absolute()) for path in source.paths] for source in sources if isinstance(source, FileSource)]
    places: list[list[str]] = []
    with atomic_folder(images) as folder:
        for number, source in enumerate(sources):
            names = [f"{'test' if number else 'development'}-{i:06d}.png" for i in range(len(source))]
            for i, name in enumerate(names):
                write_atomically(folder / name, encode_png(source.image(i)))
            places.append([f"{images.name}/{name}" for name in names])
    return places


def _check_classes(rows: Sequence[Sequence[object]], classes: Sequence[str]) -> None:
    left = Counter(str(row[1]) for row in rows if row[2] == "train")
    if gone := [name for name in classes if not left[name]]:
        raise DataError("no training image of a class would be left", got=", ".join(gone), do="keep at least one")
