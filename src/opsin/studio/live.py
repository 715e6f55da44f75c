"""A run while it is trained: curves, how far it is, what it gets wrong at present, what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from opsin.report.curves import Panel, line_figure, score_key, series_of
from opsin.report.formats import is_number
from opsin.runs import Epoch, Run
from opsin.runs.reader import read_extra
from opsin.runs.shelf import TRAINING
from opsin.studio.jobs import Job
from opsin.studio.pages import page
from opsin.studio.runs import state_of_run
from opsin.studio.state import Studio, studio_of
from opsin.tasks.cards import main_score, score_kind

NUM_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is: a share in 0 to 1 and words; the share is None before its first epoch."""

    share: float | None
    words: str


def live(request: Request) -> Response:
    """What changes while a run is trained; when it has ended, the browser is asked to load the page anew."""
    studio, name = studio_of(request), request.path_params["name"]
    job = studio.jobs.get(name)
    run = studio.runs.get(name) if name in studio.runs.names() else None
    answer = page(request, "live_part.html", **live_values(studio, name))
    ended = job is None or job.exit_code is not None
    if ended and (run is None or state_of_run(run) != TRAINING):
        answer.headers["HX-Refresh"] = "true"
    return answer


def live_values(studio: Studio, name: str) -> dict[str, Any]:
    """What the template of the live part needs; works before there is a run folder."""
    job = studio.jobs.get(name)
    run = studio.runs.get(name) if name in studio.runs.names() else None
    epochs = run.epochs if run else ()
    return {
        "name": name,
        "figures": curves(run, epochs) if run else [],
        "progress": _progress(run, epochs) if run else Progress(share=None, words="reading the data"),
        "mistakes": _mistakes(studio, run) if run else [],
        "lines": job.lines[-NUM_LINES:] if job else [],
        "stoppable": job is not None and job.exit_code is None,
    }


def curves(run: Run, epochs: tuple[Epoch, ...]) -> list[Markup]:
    """Loss and main score over the epochs so far."""
    if not epochs:
        return []
    task = str(run.data.task or run.config.task or "")
    score = score_key(epochs, main_score(task))
    panels = [Panel(title="Loss", unit="", series=_both(epochs, "loss"))]
    if score:
        kind = score_kind(task, score)
        panels.append(
            Panel(title=kind.title, unit="%" if kind.share else "", series=_both(epochs, score), share=kind.share)
        )
    best = next((epoch.epoch for epoch in reversed(epochs) if epoch.best), None)
    return [line_figure(panel, best=best) for panel in panels if panel.values]


def ended_badly(job: Job | None) -> bool:
    """Whether a job of the studio has ended by itself without success."""
    return job is not None and job.exit_code not in (None, 0)


def _both(epochs: tuple[Epoch, ...], key: str) -> Any:
    found = (series_of(epochs, split, split, key, split=split) for split in ("train", "val"))
    return tuple(series for series in found if series.points)


def _progress(run: Run, epochs: tuple[Epoch, ...]) -> Progress:
    """By epochs, or by minutes where these end first."""
    if not epochs:
        return Progress(share=None, words="preparing the first epoch")
    config, last = run.config.train, epochs[-1]
    share = last.epoch / config.epochs
    words = f"epoch {last.epoch} of {config.epochs}"
    if config.minutes is not None and is_number(last.seconds):
        share = max(share, min(1.0, last.seconds / 60 / config.minutes))
        words = f"epoch {last.epoch}, {last.seconds / 60:.1f} of {config.minutes:g} minutes"
    return Progress(share=min(1.0, share), words=words)


def _mistakes(studio: Studio, run: Run) -> list[dict[str, Any]]:
    """What the network gets wrong on val at present, the surest first, as training wrote it after its last epoch."""
    found = read_extra(run.path, "present.json").get("mistakes", [])
    key = studio.sets.key_of(run.config.source)
    return [entry | {"key": key} for entry in found if isinstance(entry, dict)] if key else []
