"""Verbs that combine several packages: training with its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsin.api.live import notebook_callbacks
from opsin.processes import is_follower
from opsin.report import write_report
from opsin.runs import RUNS_FOLDER, Run
from opsin.training.dry_run import DryRun as DryRun
from opsin.training.dry_run import dry_run as dry_run
from opsin.training.engine.hooks import Callback
from opsin.training.request import Request
from opsin.training.session import carry_out

if TYPE_CHECKING:
    from opsin.data.samples import Dataset
    from opsin.training.request import Data


def train(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    report: bool = True,
    root: Path | str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    out: Path | str = RUNS_FOLDER,
    resume: bool = False,
    open_test: bool = False,
    quiet: bool = False,
    command: str = "opsin.train(...)",
    began: float | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Run:
    """Train one network, score it on val, and leave a run folder with a report, as `opsin train` does.

    Args:
        data: catalogue name, path, arrays, or a loaded data set.
        report: write `report.html` into the run's folder.
        root: folder of the catalogue's data sets.
        recipe: a TOML file of settings, or the name of a built-in one.
        name: name of the run; by default made of data set, network and a number.
        out: folder of run folders.
        resume: continue the run `name` from its last checkpoint; with larger `epochs` or `minutes`, also after it has
            finished. It keeps its settings: changed ones, also from `recipe`, are refused.
        open_test: also score the test split, once; this is recorded.
        quiet: no progress.
        command: the command line as typed, stored in the run.
        began: value of `time.monotonic` from which `minutes` count; by default now.
        callbacks: called during training, and may stop it (`opsin.Callback`). In a notebook live learning
            curves are drawn too, unless `quiet`.
        settings: any field of the groups in `opsin.config`; and user-defined parts: `model`, a module instead of
            a name; `loss(outputs, batch)`; `augment(images, generator)`; `optimizer(parameters)`
            (docs/own-parts.md).

    Raises:
        RefusedError: settings, data or the run's name are invalid; nothing was written.
        InterruptedRunError: stopped by the user; `resume` continues.
        DivergedError: the loss or a gradient is not finite.
    """
    request = Request(
        root=root,
        recipe=recipe,
        name=name,
        out=out,
        resume=resume,
        open_test=open_test,
        quiet=quiet,
        command=command,
        began=began,
        callbacks=callbacks,
        settings=settings,
    )
    return train_as_asked(data, request, report=report)


def train_as_asked(data: Data, request: Request, *, report: bool = True) -> Run:
    """The same as `train`, from a record of its arguments."""
    live = [] if request.quiet else notebook_callbacks()
    run = carry_out(data, replace(request, callbacks=[*request.callbacks, *live]))
    if report and not is_follower():
        write_report(run)
    return run
