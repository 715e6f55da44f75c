"""`opsin train`: one run, from data to scores."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from opsin import collector
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
from opsin.cli.output import in_columns, print_json, print_line, typed_arguments, typed_command
from opsin.processes import is_follower, launched
from opsin.types import JsonDict

if TYPE_CHECKING:
    from opsin.api.training import DryRun
    from opsin.runs import Run
    from opsin.training.engine.budget import Budget
    from opsin.training.request import Request

SAID_ABOVE = ("source", "root", "task")
"""Settings that the first lines of a dry run tell."""
RESUME_HELP = (
    "Resume the run --name from its last checkpoint: bit for bit as without interruption, with the same number of "
    "threads, which is kept unless --threads is given."
)

DRY_RUN_HELP = (
    "Say what would be done, and end: data and splits, network, settings and where each comes from, minutes, memory. "
    "Nothing is written."
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
    dry_run: Annotated[bool, Parameter(negative="", help=DRY_RUN_HELP)] = False,
    devices: Annotated[int, WHOLE, Parameter(help=DEVICES_HELP)] = 1,
    settings: Annotated[Settings, FLAT] = NONE_GIVEN,  # type: ignore[valid-type]
) -> int:
    """Train one network, score it on val, and leave a run folder with a report."""
    if devices != 1 and not launched():
        from opsin.launching import launch
        from opsin.training.engine.budget import process_began

        return launch(one_of_several, typed_arguments(), devices, began=process_began())
    with collector.at_rest():
        from opsin.api.training import train_as_asked
        from opsin.training.engine.budget import process_began
        from opsin.training.request import Request

    layer: dict[str, Any] = ({"task": task} if task else {}) | given(settings)
    asked = Request(root=root, recipe=recipe, name=name, out=out, resume=resume, quiet=quiet, settings=layer)
    if dry_run:
        return _tell(data, asked, json_=json_)
    run = train_as_asked(data, replace(asked, open_test=open_test, command=typed_command(), began=process_began()))
    if is_follower():
        return 0
    if json_:
        print_json(result(run))
    elif not quiet:
        print_line(run.path / "report.html")
    return 0


def _tell(data: str, asked: Request, *, json_: bool) -> int:
    """Print what a training would do."""
    from opsin.api.training import dry_run
    from opsin.errors import ConfigError
    from opsin.progress import Reporter

    if asked.resume:
        do = "leave one of them out; a resumed run keeps its settings (`opsin report RUN` shows them)"
        raise ConfigError("a dry run is of a new run", where="--dry-run", got="--resume", do=do)
    found = dry_run(
        data,
        root=asked.root,
        recipe=asked.recipe,
        name=asked.name,
        out=asked.out,
        report=Reporter(quiet=asked.quiet),
        budget=_budget(asked.settings),
        **asked.settings,
    )
    if json_:
        print_json(found.to_json())
    else:
        print_line("\n".join(dry_lines(found)))
    return 0


def _budget(layer: Mapping[str, Any]) -> Budget | None:
    from opsin.training.engine.budget import Budget, process_began

    minutes = layer.get("minutes")
    return None if minutes is None else Budget(seconds=60 * float(minutes), began=process_began())


def dry_lines(found: DryRun) -> list[str]:
    """A dry run in words: data, network, forecast, and the settings that are not at their plain defaults."""
    from opsin.progress import duration
    from opsin.units import bytes_text

    data, layers = found.dataset, found.network.layers
    sizes = ", ".join(f"{name} {len(source):,}" for name, source in data.splits.items())
    shape, weights = "x".join(map(str, layers.input_shape)), found.config.finetune.weights
    start = f"weights from {weights}" if weights else "random weights"
    low, high = map(bytes_text, found.network.process_forecast)
    told = {key: entry for key, entry in found.settings().items() if key in found.origins and key not in SAID_ABOVE}
    return [
        f"would train {found.path}; nothing was written",
        f"data:     {data.name}, {data.task}, {len(data.classes)} classes; {sizes} ({data.layout})",
        *(f"  note:   {note}" for note in data.notes),
        f"network:  {found.network.request.spec.name}, {start}, input {shape}, {layers.parameters:,} parameters, "
        f"{layers.trainable:,} of them trainable",
        f"forecast: about {duration(found.seconds)} at the speed just measured, start-up and scoring included; "
        f"{low} to {high} of memory at the peak, Python and torch included, the packed images not",
        "settings, and where they come from:",
        *(f"  {line}" for line in in_columns([_cells(entry) for entry in told.items()])),
        "  all others are at their defaults (`opsin train --help`; --json lists them)",
    ]


def _cells(entry: tuple[str, JsonDict]) -> tuple[str, str, str]:
    key, told = entry
    value = told["value"]
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}", "", told["from"]
    return f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value), told["from"]


def result(run: Run) -> JsonDict:
    """What `--json` prints of a run."""
    from opsin.diagnosis.prospects import prospects
    from opsin.runs.codec import plain_value, to_json

    scores = {split: plain_value(found.scores) for split, found in run.scores.items()}
    return {
        **to_json(run.summary),
        "selection": plain_value(run.scores["val"].selection) if "val" in run.scores else None,
        "run": str(run.path),
        "scores": scores,
        "would_bring_more": [vars(found) for found in prospects(run)],
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
