"""The studio as an ASGI application: its routes, its static files, its refusals.

guard ── route ── (form) ── page, in a thread ── template
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib import import_module
from importlib.resources import files
from inspect import iscoroutinefunction
from threading import Thread
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opsin.errors import OpsinError
from opsin.studio.guard import Guarded, StudioGuard
from opsin.studio.pages import refusal, stylesheet
from opsin.studio.state import Studio

STATIC = dict.fromkeys(("studio.js", "label.js", "htmx.min.js"), "text/javascript")
"""Scripts of the studio: the only ones that a page may run."""
PAGES: tuple[tuple[str, str], ...] = (
    ("/", "home:home"),
    ("/data/{key}", "home:data_set"),
    ("/data/{key}/overview", "data:overview"),
    ("/data/{key}/grid", "data:grid"),
    ("/data/{key}/image/{split}/{number:int}", "data:image"),
    ("/data/{key}/findings", "data:findings"),
    ("/data/{key}/augmented", "data:augmented"),
    ("/data/{key}/label", "labelling:show"),
    ("/data/{key}/label/{number:int}", "labelling:said"),
    ("/data/{key}/label/{number:int}/photo", "labelling:photo"),
    ("/data/{key}/label/{number:int}/mask", "labelling:mask"),
    ("/data/{key}/augmented.jpg", "data:augmented_picture"),
    ("/train", "train:form"),
    ("/train/fields", "train:fields"),
    ("/train/plan", "train:plan"),
    ("/teach", "teach:show"),
    ("/runs/{name}", "run:run"),
    ("/runs/{name}/live", "live:live"),
    ("/runs/{name}/report", "run:one_page"),
    ("/runs/{name}/errors", "errors:errors"),
    ("/runs/{name}/image/{number:int}", "errors:image"),
    ("/runs/{name}/verdicts", "verdicts:show"),
    ("/runs/{name}/try", "tryout:show"),
    ("/compare", "compare:compare"),
    ("/kernels", "kernels:show"),
    ("/kernels/grid", "kernels:grid"),
    ("/kernels/result", "kernels:result"),
    ("/planner", "planner:show"),
    ("/planner/result", "planner:result"),
    ("/labs", "labs:show"),
    ("/labs/{name}/{size}", "labs:report"),
)
"""What is looked at: addresses, and the functions of this package that answer them, imported when they are asked."""
ACTIONS: tuple[tuple[str, str], ...] = (
    ("/uploads", "uploads:begin_set"),
    ("/uploads/{id}", "uploads:add"),
    ("/uploads/{id}/finish", "uploads:finish_set"),
    ("/data/{key}/label", "labelling:begin_labelling"),
    ("/data/{key}/label/class", "labelling:add_class"),
    ("/data/{key}/label/{number:int}/label", "labelling:set_label"),
    ("/data/{key}/label/{number:int}/boxes", "labelling:set_boxes"),
    ("/data/{key}/label/{number:int}/mask", "labelling:set_mask"),
    ("/train", "train:start_run"),
    ("/teach", "teach:learn_things"),
    ("/runs/{name}/stop", "train:stop_run"),
    ("/runs/{name}/resume", "train:resume_run"),
    ("/runs/{name}/check", "run:check_run"),
    ("/runs/{name}/verdicts", "verdicts:apply_verdicts"),
    ("/runs/{name}/verdicts/{number:int}", "verdicts:relabel_picture"),
    ("/runs/{name}/predict", "tryout:predict"),
    ("/runs/{name}/explain", "tryout:explain"),
    ("/labs", "labs:begin_lab"),
)
"""What is changed, by POST alone."""
HEAVY = ("opsin.api.training", "opsin.api.verbs", "opsin.data.load", "opsin.explanation.attribution")
"""Imported in the background once the studio answers, so that the second page is quick too."""


def routes() -> list[Route]:
    """All addresses of the studio."""
    pages = [Route(path, _answered_by(place), methods=["GET"]) for path, place in PAGES]
    actions = [Route(path, _answered_by(place), methods=["POST"]) for path, place in ACTIONS]
    return [Route("/static/{name}", static), *pages, *actions]


def _answered_by(place: str) -> Any:
    """An endpoint that imports the function which answers when it is first asked; it runs in a thread if it can."""
    module, name = place.split(":")

    async def endpoint(request: Request) -> Response:
        answer = getattr(await run_in_threadpool(import_module, f"opsin.studio.{module}"), name)
        return await answer(request) if iscoroutinefunction(answer) else await run_in_threadpool(answer, request)

    return endpoint


def _warm_up() -> None:
    for module in HEAVY:
        import_module(module)


def make_app(studio: Studio, guard: StudioGuard) -> Starlette:
    """The application of a studio; trainings that it has begun are stopped, with a checkpoint, when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        Thread(target=_warm_up, daemon=True).start()
        yield
        await run_in_threadpool(studio.jobs.close)

    app = Starlette(
        routes=routes(),
        middleware=[Middleware(Guarded, guard=guard)],
        exception_handlers={OpsinError: refusal, HTTPException: refusal},
        lifespan=lifespan,
    )
    app.state.studio = studio
    return app


def static(request: Request) -> Response:
    """A script or the style sheet, by its name in a table: no path is looked up."""
    name = request.path_params["name"]
    if name == "studio.css":
        return _kept(stylesheet(), "text/css")
    if name not in STATIC:
        raise HTTPException(404)
    return _kept(_source(name), STATIC[name])


@cache
def _source(name: str) -> str:
    return (files("opsin.studio") / "static" / name).read_text(encoding="utf-8")


def _kept(text: str, kind: str) -> Response:
    return Response(text, media_type=kind, headers={"Cache-Control": "no-cache"})
