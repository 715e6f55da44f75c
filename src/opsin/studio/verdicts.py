"""Relabel where a network fails: verdicts on pictures of a run's val, in the table that `opsin clean` applies."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from opsin.cleaning.verdicts import COLUMNS, RELABEL
from opsin.data.samples import Dataset
from opsin.errors import DataError
from opsin.io.tables import read_table, write_table
from opsin.runs import Run
from opsin.server.refusal import RequestError
from opsin.studio.labelled import remove
from opsin.studio.pages import Form, page, posted
from opsin.studio.sets import Listed
from opsin.studio.state import Studio, studio_of
from opsin.tasks import get_task

DROP, KEEP = "drop", "keep"
REASON = "seen"
"""Why a picture is in the table: a person has seen it."""
Rows = dict[int, dict[str, str]]


def table_of(studio: Studio, name: str) -> Path:
    """Where the verdicts on the pictures of a run lie."""
    return studio.folder / "verdicts" / f"{name}.csv"


def collected(studio: Studio, name: str) -> Rows:
    """The verdicts on a run's pictures by their row among the development samples: train, then val.

    Raises:
        DataError: the table was changed into something else.
    """
    path = table_of(studio, name)
    rows = read_table(path) if path.is_file() else []
    if any(tuple(row) != COLUMNS or not row["row"].isdecimal() for row in rows):
        raise DataError("the table of verdicts was changed", where=path, expected=", ".join(COLUMNS))
    return {int(row["row"]): row for row in rows}


def can_be_relabelled(run: Run) -> bool:
    """Whether `opsin clean` takes the run's data: one class for each picture, and nothing else."""
    task = str(run.data.task or run.config.task or "")
    return bool(task) and get_task(task).one_class


def chosen_of(studio: Studio, run: Run, dataset: Dataset) -> dict[int, str]:
    """Verdicts by the number of the picture in val, as the fields of the page name them."""
    first = _first_row(dataset)
    return {row - first: entry["verdict"] for row, entry in collected(studio, run.name).items() if row >= first}


def relabel(request: Request, given: Form) -> Response:
    """Take a verdict on a picture of val: keep, drop, or the number of a class."""
    studio, number = studio_of(request), request.path_params["number"]
    run = studio.runs.get(request.path_params["name"])
    if not can_be_relabelled(run):
        raise RequestError(400, "only sets with one class for each picture are relabelled here", got=run.name)
    dataset = studio.runs.dataset(run.name)
    source = dataset.splits["val"]
    if source.labels is None or not 0 <= number < len(source):
        raise RequestError(404, "no such picture", got=number)
    verdict = _verdict(given.get("verdict", ""), dataset, int(source.labels[number]))
    row = _first_row(dataset) + number
    with studio.lock:
        rows = collected(studio, run.name)
        rows.pop(row, None)
        if verdict != KEEP:
            values = [row, source.ids[number], "val", dataset.classes[source.labels[number]]]
            values += [verdict.removeprefix(RELABEL) if verdict != DROP else "", "", REASON, verdict]
            rows[row] = dict(zip(COLUMNS, map(str, values), strict=True))
        _write(studio, run.name, rows)
    return _part(request, studio, run)


def show(request: Request) -> Response:
    """How many verdicts there are, and what to do with them."""
    studio = studio_of(request)
    return _part(request, studio, studio.runs.get(request.path_params["name"]))


def apply(request: Request, given: Form) -> Response:
    """Begin to write the corrected table, by `opsin clean --apply`, beside those that were written before."""
    studio = studio_of(request)
    run = studio.runs.get(request.path_params["name"])
    if not collected(studio, run.name):
        raise RequestError(400, "there are no verdicts to apply", got=run.name)
    studio.jobs.start(_job(run.name), _command(studio, run))
    return _part(request, studio, run)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the part of the page about verdicts shows.

    `command`: applies them in a terminal. `applying`: whether that runs now; `lines`: what it said where it failed.
    `corrected`: the newest table that it wrote.
    """

    name: str
    num_verdicts: int
    command: str
    applying: bool
    lines: list[str]
    corrected: Listed | None


def said_of(studio: Studio, run: Run) -> Said:
    """The verdicts on a run's pictures so far."""
    job = studio.jobs.get(_job(run.name))
    ended = job is not None and job.exit_code is not None
    newest = _corrected(studio, run.name)
    item = next((found for found in studio.sets.listed() if newest and found.source == str(newest[-1])), None)
    return Said(
        name=run.name,
        num_verdicts=len(collected(studio, run.name)),
        command=shlex.join(["opsin", *_command(studio, run)]),
        applying=job is not None and not ended,
        lines=job.lines[-6:] if job is not None and ended and job.exit_code else [],
        corrected=item,
    )


def _part(request: Request, studio: Studio, run: Run) -> Response:
    return page(request, "verdicts_part.html", said=said_of(studio, run))


def _command(studio: Studio, run: Run) -> list[str]:
    folder = studio.sets.corrected
    out = folder / f"{run.name}-{len(_corrected(studio, run.name)) + 1}.csv"
    root = ["--root", studio.root] if studio.root else []
    table = str(table_of(studio, run.name))
    return ["clean", str(run.path), "--verdicts", table, "--apply", str(out), *root]


def _corrected(studio: Studio, name: str) -> list[Path]:
    """The corrected tables of a run, oldest first."""
    paths = studio.sets.corrected.glob("*.csv")
    mine = [path for path in paths if path.stem.rpartition("-")[0] == name]
    return sorted(mine, key=lambda path: path.stat().st_mtime_ns)


def _job(name: str) -> str:
    return f"{name}.clean"


def _write(studio: Studio, name: str, rows: Rows) -> None:
    path = table_of(studio, name)
    if rows:
        write_table(path, COLUMNS, ([rows[row][column] for column in COLUMNS] for row in sorted(rows)))
    else:
        remove(path)


def _first_row(dataset: Dataset) -> int:
    """The row of val's first picture among the development samples."""
    return len(dataset.splits["train"]) if "train" in dataset.splits else 0


def _verdict(text: str, dataset: Dataset, label: int) -> str:
    """The verdict that a field names; a picture's own class is kept."""
    if text in (DROP, KEEP):
        return text
    if not text.isdecimal() or len(text) > 6 or int(text) >= len(dataset.classes):
        raise RequestError(400, "no such verdict", got=text[:40], expected="keep, drop or the number of a class")
    return KEEP if int(text) == label else f"{RELABEL}{dataset.classes[int(text)]}"


relabel_picture, apply_verdicts = posted(relabel), posted(apply)
