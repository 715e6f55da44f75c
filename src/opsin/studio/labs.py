"""Labs: the course experiments, their reports, and a way to run them."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from opsin import labs
from opsin.server.refusal import RequestError
from opsin.studio.pages import Form, choice, page, posted, to
from opsin.studio.state import Studio, studio_of

SIZES = ("quick", "full")
FILE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
"""Of a report that lies in a file: it shows, and nothing in it runs."""


def show(request: Request) -> Response:
    """All labs, with the reports that are there."""
    studio = studio_of(request)
    listed = [
        {
            "name": name,
            "lab": labs.get(name),
            "reports": [size for size in SIZES if _report(studio, name, size).is_file()],
            "running": (job := studio.jobs.get(f"lab-{name}")) is not None and job.exit_code is None,
            "failed": job is not None and job.exit_code not in (None, 0),
            "lines": job.lines[-8:] if job is not None else [],
        }
        for name in labs.names()
    ]
    running = any(item["running"] for item in listed)
    return page(request, "labs.html", listed=listed, running=running)


def report(request: Request) -> Response:
    """The report of a lab."""
    name, size = request.path_params["name"], request.path_params["size"]
    if name not in labs.names() or size not in SIZES:
        raise RequestError(404, "no such lab", got=name[:40])
    path = _report(studio_of(request), name, size)
    if not path.is_file():
        raise RequestError(404, "this lab has not been run", got=f"{name}, {size}")
    return HTMLResponse(path.read_bytes(), headers={"Content-Security-Policy": FILE_POLICY})


def begin(request: Request, given: Form) -> Response:
    """Run a lab on embedded data, in a process of its own."""
    studio = studio_of(request)
    name = choice(given, "lab", tuple(labs.names()))
    studio.jobs.start(f"lab-{name}", ["lab", "run", name, "--quick", "--out", str(studio.labs)])
    return to("/labs")


def _report(studio: Studio, name: str, size: str) -> Path:
    return studio.labs / f"{name}-{size}" / "report.html"


begin_lab = posted(begin)
