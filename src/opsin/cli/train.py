"""`opsin train`: one run, from data to scores."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from opsin.cli.options import (
    FLAT,
    NONE_GIVEN,
    WHOLE,
    DataArgument,
    JsonFlag,
    OutOption,
    QuietFlag,
    RecipeOption,
    RootOption,
    Settings,
    TaskOption,
    given,
)
from opsin.cli.output import print_json, print_line
from opsin.processes import is_follower, launched

if TYPE_CHECKING:
    from opsin.runs import Run

RESUME_HELP = (
    "Resume the run --name from its last checkpoint: bit for bit as without interruption, with the same number of "
    "threads, which is kept unless --threads is given."
)

FAULT = 1
DEVICES_HELP = (
    "Processes that train together: one for each GPU, else each with its share of the cores. They share every batch; "
    "one that dies is started again with the others, from the last checkpoint."
)


def train(
    data: DataArgument,
    /,
    *,
    root: RootOption = None,
    task: TaskOption = None,
    recipe: RecipeOption = None,
    name: Annotated[
        str | None, Parameter(help="Name of the run; by default made of data, network and a number.")
    ] = None,
    out: OutOption = "runs",
    resume: Annotated[bool, Parameter(negative="", help=RESUME_HELP)] = False,
    open_test: Annotated[bool, Parameter(negative="", help="Also score the test split; this is recorded.")] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    devices: Annotated[int, WHOLE, Parameter(help=DEVICES_HELP)] = 1,
    settings: Annotated[Settings, FLAT] = NONE_GIVEN,  # type: ignore[valid-type]
) -> int:
    """Train one network, score it on val, and leave a run folder with a report."""
    if devices != 1 and not launched():
        from opsin.launching import launch

        return launch(one_of_several, sys.argv[1:], devices)
    from opsin.api.training import train as run_training
    from opsin.training.engine.budget import process_began

    layer: dict[str, Any] = ({"task": task} if task else {}) | given(settings)
    run = run_training(
        data,
        root=root,
        recipe=recipe,
        name=name,
        out=out,
        resume=resume,
        open_test=open_test,
        quiet=quiet,
        command=typed_command(),
        began=process_began(),
        **layer,
    )
    if is_follower():
        return 0
    if json_:
        print_json(result(run))
    elif not quiet:
        print_line(run.path / "report.html")
    return 0


def result(run: Run) -> dict[str, Any]:
    """What `--json` prints of a run."""
    from opsin.runs.codec import plain_value, to_json

    scores = {split: plain_value(found.scores) for split, found in run.scores.items()}
    return {
        **to_json(run.summary),
        "selection": plain_value(run.scores["val"].selection) if "val" in run.scores else None,
        "run": str(run.path),
        "scores": scores,
        "report": str(run.path / "report.html"),
    }


def one_of_several(arguments: list[str]) -> int:
    """The command in a process that a launcher has made; returns its exit code.

    One that was no fault of the user's ends the process with it, so that the launcher starts the group again.
    """
    from opsin.cli import main

    code = main(arguments)
    if code == FAULT:
        sys.exit(code)
    return code


def typed_command() -> str:
    """The command as typed by the user."""
    return shlex.join(["opsin", *sys.argv[1:]])
