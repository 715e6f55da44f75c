"""`opsin runs`: what lies in a folder of runs, and its removal."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from opsin.cli.options import JsonFlag, OutOption, QuietFlag, SeedOption
from opsin.cli.output import in_columns, print_json, print_line
from opsin.errors import ConfigError
from opsin.types import JsonDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from opsin.runs.shelf import RunRow

app = cyclopts.App(name="runs", help="List the runs of a folder, show one, or remove some.")
TITLES = ("name", "begun", "state", "data", "network", "epochs", "val")
YesFlag = Annotated[bool, Parameter(name="--yes", negative="", help="Do it; without it you are told what would be.")]


@app.command(name="list")
def list_runs(
    *, out: OutOption = "runs", json_: JsonFlag = False, quiet: QuietFlag = False, seed: SeedOption = 0
) -> int:
    """List runs, oldest first: data, network, main score on val, how they ended."""
    from opsin.runs.shelf import rows

    found = rows(out)
    if json_:
        print_json({"runs": [row.to_json() for row in found]})
    else:
        _print(found)
    return 0


@app.command
def show(
    name: str, /, *, out: OutOption = "runs", json_: JsonFlag = False, quiet: QuietFlag = False, seed: SeedOption = 0
) -> int:
    """Show one run: its scores with their intervals, its settings, its size.

    Parameters
    ----------
    name
        A run of the folder, or a path.
    """
    document = _about(name, out)
    if json_:
        print_json(document)
        return 0
    for key in ("run", "state", "data", "task", "model", "epochs", "seconds", "bytes", "command"):
        print_line(f"{key:<10}{document[key]}")
    for split, scores in document["scores"].items():
        for score, value in scores.items():
            print_line(f"{split:<10}{score} {value}")
    return 0


@app.command
def rm(
    *names: str,
    out: OutOption = "runs",
    yes: YesFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Remove runs of the folder by name; never what is no run or lies elsewhere.

    Parameters
    ----------
    names
        Runs as `opsin runs list` names them.
    """
    from opsin.runs.shelf import named

    if not names:
        raise ConfigError("remove which runs?", expected="one name or more")
    return _remove(named(names, out), yes=yes, json_=json_, quiet=quiet)


@app.command
def prune(
    *,
    out: OutOption = "runs",
    unfinished: Annotated[
        bool, Parameter(negative="", help="Runs that have not ended and that nobody trains.")
    ] = False,
    older_than: Annotated[float | None, Parameter(help="Runs that were begun before that many days.")] = None,
    checkpoints: Annotated[
        bool, Parameter(negative="", help="Remove their checkpoints alone: they cannot be resumed then.")
    ] = False,
    yes: YesFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Remove all runs of the folder that fit what is asked; one that is being trained stays."""
    from opsin.runs.shelf import to_prune

    found = [row.path for row in to_prune(out, unfinished=unfinished, older_than_days=older_than)]
    return _remove(found, yes=yes, json_=json_, quiet=quiet, checkpoints_only=checkpoints)


def _remove(paths: Sequence[Path], *, yes: bool, json_: bool, quiet: bool, checkpoints_only: bool = False) -> int:
    """Remove runs and tell of it.

    Raises:
        ConfigError: there are some, and nobody said yes.
    """
    from opsin.runs.shelf import remove

    names = ", ".join(path.name for path in paths)
    what = "the checkpoints of " if checkpoints_only else ""
    if paths and not yes:
        do = f"--yes removes {what}{len(paths)} run{'s' * (len(paths) > 1)} for good"
        raise ConfigError("nothing was removed", where=paths[0].parent, got=names, do=do)
    freed = remove(paths, checkpoints_only=checkpoints_only)
    if json_:
        print_json({"removed": [str(path) for path in paths], "bytes": freed})
    elif not quiet:
        print_line(f"removed {what}{names or 'nothing'} ({freed / 1e6:.1f} MB)")
    return 0


def _about(name: str, out: str) -> JsonDict:
    from opsin.config import flat
    from opsin.runs import Run
    from opsin.runs.codec import plain_value
    from opsin.runs.shelf import row, size_bytes

    run = Run.open(name, out=out)
    brief = row(run.path)
    scores = {split: found.scores for split, found in run.scores.items()}
    return {
        **brief.to_json(),
        "run": str(run.path),
        "bytes": size_bytes(run.path),
        "command": run.summary.command or "",
        "settings": plain_value(flat(run.config)),
        "scores": {split: plain_value(found) for split, found in scores.items()},
    }


def _print(found: Sequence[RunRow]) -> None:
    """A table; not by rich, which takes longer for a thousand rows than reading them."""
    for line in in_columns([TITLES, *map(_cells, found)]):
        print_line(line)


def _cells(row: RunRow) -> tuple[str, ...]:
    begun = datetime.fromtimestamp(row.written).strftime("%Y-%m-%d %H:%M")
    score = "" if math.isnan(row.score) else f"{row.score_name} {row.score:.4f}"
    return row.name, begun, row.state, row.data, row.model, str(row.epochs), score
