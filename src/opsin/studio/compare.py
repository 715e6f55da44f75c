"""Compare: is one run better than another, on the same pictures?"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from opsin.errors import OpsinError
from opsin.server.refusal import RequestError
from opsin.studio.pages import page, pager
from opsin.studio.state import studio_of
from opsin.tasks.cards import score_kind

MOST_RUNS = 12
LISTED = 100


def compare(request: Request) -> Response:
    """Finished runs to choose from, and what comes out of those that are chosen."""
    studio = studio_of(request)
    chosen = list(dict.fromkeys(request.query_params.getlist("run")))
    names = studio.runs.names()
    shown = pager(request, len(names), LISTED)
    rows = [row for i in shown.span if (row := studio.runs.row(names[i])).ended and row.split]
    found, error = None, None
    try:
        found = _compared(request, chosen) if len(chosen) >= 2 else None
    except OpsinError as refused:
        error = refused
    status = 200 if error is None else 400
    return page(request, "compare.html", status, rows=rows, chosen=chosen, found=found, error=error, pager=shown)


def _compared(request: Request, names: list[str]) -> dict[str, Any]:
    from opsin.comparison.comparison import compare_runs

    if len(names) > MOST_RUNS:
        raise RequestError(400, "too many runs at once", got=len(names), expected=f"at most {MOST_RUNS}")
    runs = [studio_of(request).runs.get(name) for name in names]
    result = compare_runs(runs, split="val")
    kind = score_kind(runs[0].task, result.score)
    return {"result": result, "kind": kind}
