"""The page of a search: one self-contained HTML file without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from opsin.io.files import write_atomically
from opsin.report.page import policy
from opsin.report.render import render, source
from opsin.studies.search import Trial
from opsin.studies.space import Parameter, text_of_value
from opsin.studies.tune_figures import frontier, frontier_figure, importance_figure, parallel_figure
from opsin.tasks.cards import score_kind

if TYPE_CHECKING:
    from opsin.studies.tuning import TuneResult

STYLE = ".opsin svg .soft-line { stroke-width: 1; stroke-opacity: .35; }\n"


def write_tune_page(result: TuneResult, space: Sequence[Parameter], *, task: str, data: str, network: str) -> Path:
    """Write the page of a search into its folder.

    Args:
        result: result of the search.
        space: the search space.
        task: task of the data.
        data: its name.
        network: the network's name.
    """
    style = source("figures.css") + source("page.css") + STYLE
    title = score_kind(task, result.score).title
    timed = {trial.number for trial in frontier(result.trials)}
    values: dict[str, Any] = {
        "result": result,
        "data": data,
        "network": network,
        "score_name": title,
        "importance": importance_figure(result.importances),
        "parallel": parallel_figure(result.trials, space, result.best.number, title),
        "frontier": frontier_figure(result.trials, result.best.number, title),
        "names": [part.name for part in space],
        "rows": [_row(trial, space, timed) for trial in _ranked(result.trials)],
        "states": result.to_dict()["trials"],
        "style": Markup(style),
        "policy": policy(style),
    }
    write_atomically(result.page, render("tune.html", values).encode("utf-8"))
    return result.page


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Best first; those without a score last, in order of their numbers."""
    complete = sorted((t for t in trials if t.state == "complete"), key=lambda t: -t.score)
    return [*complete, *(t for t in trials if t.state != "complete")]


def _row(trial: Trial, space: Sequence[Parameter], timed: set[int]) -> dict[str, Any]:
    complete = trial.state == "complete"
    return {
        "number": trial.number,
        "score": f"{trial.score:.4f}" if complete else trial.state,
        "why": "" if complete else str(trial.about.get("ended", "")),
        "epochs": len(trial.curve),
        "seconds": trial.seconds,
        "values": [text_of_value(trial.values.get(part.name)) for part in space],
        "frontier": trial.number in timed,
    }
