"""A run: live while it is trained, else its report with the ways on from it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from opsin.report.page import page as report_page
from opsin.report.page import policy, sections_of
from opsin.report.render import source
from opsin.report.sections import headline
from opsin.report.view import view_of
from opsin.runs.shelf import TRAINING
from opsin.server.refusal import RequestError
from opsin.studio.live import ended_badly, live_values
from opsin.studio.pages import Form, address, page, posted, to
from opsin.studio.state import Studio, studio_of
from opsin.tasks.cards import card_of, task_names

CHECKS = {"doctor": ["doctor"], "robustness": ["evaluate", "--robustness"]}
"""Further looks at a finished run, as verbs of the command line: processes that write into its folder."""


def run(request: Request) -> Response:
    """The page of a run, or of a training whose run folder is not there yet."""
    studio, name = studio_of(request), request.path_params["name"]
    job = studio.jobs.get(name)
    if not studio.runs.has(name):
        if job is None:
            raise RequestError(404, "no such run", got=name[:100])
        return page(request, "live.html", failed=ended_badly(job), state="preparing", **live_values(studio, name))
    state = studio.runs.state(name)
    if state == TRAINING or (job is not None and job.exit_code is None):
        return page(request, "live.html", failed=False, state="training", **live_values(studio, name))
    return page(request, "run.html", **_values(studio, name), state=state)


def _values(studio: Studio, name: str) -> dict[str, Any]:
    opened = studio.runs.get(name)
    view, job = view_of(opened), studio.jobs.get(name)
    checks = {check: studio.jobs.get(f"{name}.{check}") for check in CHECKS}
    return {
        **headline(view),
        "name": name,
        "sections": [(section, section.show(view)) for section in sections_of(view)],
        "has_network": studio.has_network(name),
        "decides_class": view.task in task_names() and card_of(view.task).decides_class and bool(view.results),
        "data_key": studio.sets.key_of(opened.config.source),
        "failed": ended_badly(job),
        "lines": job.lines[-12:] if ended_badly(job) and job else [],
        "checking": [check for check, found in checks.items() if found is not None and found.exit_code is None],
        "checks": list(CHECKS),
    }


def one_page(request: Request) -> Response:
    """The report as `opsin report` writes it, to be kept or printed."""
    view = view_of(studio_of(request).runs.get(request.path_params["name"]))
    style = source("figures.css") + source("page.css")
    return HTMLResponse(report_page(view), headers={"Content-Security-Policy": policy(style)})


def check(request: Request, given: Form) -> Response:
    """Begin a further look at a run."""
    studio, name = studio_of(request), request.path_params["name"]
    opened, wanted = studio.runs.get(name), given.get("check", "")
    if wanted not in CHECKS:
        raise RequestError(400, "no such check", got=wanted[:40], expected=", ".join(CHECKS))
    verb, *options = CHECKS[wanted]
    root = ["--root", studio.root] if studio.root else []
    studio.jobs.start(f"{name}.{wanted}", [verb, str(opened.path), *root, *options])
    return to(address("runs", name))


check_run = posted(check)
