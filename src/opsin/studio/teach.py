"""Teach three things by webcam: what is collected becomes a data set, whose classes the head of a network learns."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from opsin.runs import next_name
from opsin.studio.pages import Form, address, page, posted
from opsin.studio.state import studio_of

LEAST = 10
"""Pictures of each thing."""
EPOCHS = 30
"""Of the last layer, on features that are computed once: a second in all."""


def show(request: Request) -> Response:
    """The page."""
    return page(request, "teach.html", least=LEAST)


def learn(request: Request, given: Form) -> Response:
    """Train the last layer on an uploaded set: where the run is seen."""
    studio = studio_of(request)
    item = studio.sets.get(given.get("data", ""))
    name = next_name(item.name, studio.runs.folder)
    way = ["--finetune", "head", "--epochs", str(EPOCHS), "--no-preflight"]
    studio.jobs.start(name, ["train", item.source, "--runs", str(studio.runs.folder), "--name", name, *way])
    return JSONResponse({"address": address("runs", name)})


learn_things = posted(learn)
