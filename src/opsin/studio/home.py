"""Home: what there is, and what is being trained."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from opsin.studio.labelled import why_not_labelled
from opsin.studio.pages import page, pager, wants_part
from opsin.studio.state import studio_of

RUNS_ON_A_PAGE = 20


def home(request: Request) -> Response:
    """Data sets and runs."""
    studio = studio_of(request)
    names = studio.runs.names()
    shown = pager(request, len(names), RUNS_ON_A_PAGE)
    rows = [studio.runs.row(names[i]) for i in shown.span]
    jobs = [job for job in studio.jobs.running() if job.name not in names]
    values: dict[str, Any] = {"rows": rows, "pager": shown, "jobs": jobs, "folder": str(studio.runs.folder)}
    if wants_part(request):
        return page(request, "run_list.html", **values)
    return page(request, "home.html", sets=studio.sets.listed(), **values)


def data_set(request: Request) -> Response:
    """The frame of the page of a data set; what takes time to load comes after it."""
    item = studio_of(request).sets.get(request.path_params["key"])
    why = why_not_labelled(item.photos) if item.photos else ""
    return page(request, "data.html", item=item, why_not_labelled=why)
