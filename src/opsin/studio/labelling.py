"""Label the photos of a folder: classes by keyboard, boxes, masks. Photos are asked for by number, classes too."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from opsin.errors import ImageError
from opsin.server.body import read_body
from opsin.server.limits import Limits
from opsin.server.refusal import RequestError
from opsin.studio.annotations import Annotations
from opsin.studio.box_file import Box
from opsin.studio.labelled import KINDS, Kind
from opsin.studio.pages import Form, address, choice, page, picture, posted, to, whole
from opsin.studio.photos import WORK_PX
from opsin.studio.state import studio_of

KEYS = "1234567890acdfghijklmopqrstvwxyz"
"""Keys of the classes in their order. Letters that are left out are commands: u undo, n new box, e eraser, b brush."""
LIMITS = Limits(max_bytes=WORK_PX * WORK_PX)
MAX_BOXES = 300
"""In one photo."""
TITLES: dict[Kind, str] = {"labels": "Labels", "boxes": "Boxes", "masks": "Masks"}


def show(request: Request) -> Response:
    """The page: first which classes there are, then the photos."""
    studio, key = studio_of(request), request.path_params["key"]
    item, notes = studio.sets.get(key), studio.annotations(key)
    notes.refresh()
    if not notes.begun:
        by_folder = sorted(set(notes.photos.classes().values()))
        return page(request, "label_begin.html", item=item, notes=notes, titles=TITLES, by_folder=by_folder)
    kind = _kind(request)
    done, first_open = notes.progress(kind)
    start = whole(request.query_params, "at", first_open, high=max(0, len(notes.names) - 1))
    return page(
        request,
        "label.html",
        item=item,
        notes=notes,
        titles=TITLES,
        kind=kind,
        keys=KEYS,
        start=start,
        done=done,
        written=kind in notes.place.outputs(),
        next_key=f"{kind}-of-{key}",
    )


def begin(request: Request, given: Form) -> Response:
    """Set the classes: one in each line, or those of the folders too, with their labels."""
    key = request.path_params["key"]
    notes = studio_of(request).annotations(key)
    notes.refresh()
    names = [line.strip() for line in given.get("classes", "").splitlines() if line.strip()]
    notes.begin(names, from_folders="folders" in given)
    return to(address("data", key, "label", kind=choice(given, "kind", KINDS)))


def new_class(request: Request, given: Form) -> Response:
    """Add a class: all of them."""
    notes = _notes(request)
    return JSONResponse({"classes": notes.add_class(re.sub(r"\s+", " ", given.get("name", "")).strip())})


def said(request: Request) -> Response:
    """A photo: its name and size, and what is said of it."""
    notes, name = _asked(request)
    try:
        height, width = notes.photos.size(name)
    except ImageError as error:
        raise RequestError(404, "this photo cannot be read", where=name, got=error.what) from error
    boxes = [[box.label, box.x, box.y, box.width, box.height] for box in notes.boxes(name)]
    size = {"width": width, "height": height}
    return JSONResponse({"name": name, **size, "label": notes.label(name), "boxes": boxes})


def photo(request: Request) -> Response:
    """A photo, upright, as large as a screen."""
    notes, name = _asked(request)
    try:
        return picture(notes.photos.pixels(name))
    except ImageError as error:
        raise RequestError(404, "this photo cannot be read", where=name, got=error.what) from error


def mask(request: Request) -> Response:
    """The mask of a photo: a byte for each pixel, row by row."""
    notes, name = _asked(request)
    found = notes.mask(name)
    size = {"Mask-Height": str(found.shape[0]), "Mask-Width": str(found.shape[1])}
    return Response(found.tobytes(), media_type="application/octet-stream", headers=size)


def label(request: Request, given: Form) -> Response:
    """Give a photo a class, or -1: none."""
    notes, name = _asked(request)
    notes.set_label(name, whole(given, "label", -1, low=-1, high=len(notes.classes) - 1))
    return _told(notes, "labels")


async def set_boxes(request: Request) -> Response:
    """Replace the boxes of a photo: JSON, a list of (class, x, y, width, height) in pixels of the photo."""
    body = await _body(request)
    return await run_in_threadpool(_set_boxes, request, body)


def _set_boxes(request: Request, body: bytes) -> Response:
    notes, name = _asked(request)
    notes.set_boxes(name, _boxes(body))
    return _told(notes, "boxes")


async def set_mask(request: Request) -> Response:
    """Replace the mask of a photo: a byte for each pixel at the size it is shown, row by row."""
    body = await _body(request)
    return await run_in_threadpool(_set_mask, request, body)


def _set_mask(request: Request, body: bytes) -> Response:
    notes, name = _asked(request)
    notes.set_mask(name, body)
    return _told(notes, "masks")


def _told(notes: Annotations, kind: Kind) -> Response:
    done, first_open = notes.progress(kind)
    return JSONResponse({"done": done, "total": len(notes.names), "next": first_open})


def _notes(request: Request) -> Annotations:
    """What is said of the photos of a set, once it has classes."""
    notes = studio_of(request).annotations(request.path_params["key"])
    if not notes.begun:
        raise RequestError(409, "there are no classes yet", do="load the page anew")
    return notes


def _asked(request: Request) -> tuple[Annotations, str]:
    """The photo whose number the address holds, in the list that `of` names."""
    notes = _notes(request)
    return notes, notes.photos.name(request.path_params["number"], request.query_params.get("of", ""))


def _kind(request: Request) -> Kind:
    found = choice(request.query_params, "kind", KINDS)
    return next(kind for kind in KINDS if kind == found)


async def _body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(LIMITS.timeout_s):
            return await read_body(request, LIMITS.max_bytes)
    except TimeoutError as error:
        raise RequestError(408, "the request took too long") from error


def _boxes(body: bytes) -> Sequence[Box]:
    """Boxes from JSON.

    Raises:
        RequestError: 400, it is something else.
    """
    refused = RequestError(400, "these are no boxes", expected=f"at most {MAX_BOXES} of [class, x, y, width, height]")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise refused from error
    if not isinstance(found, list) or len(found) > MAX_BOXES:
        raise refused
    return [_box(entry, refused) for entry in found]


def _box(entry: object, refused: RequestError) -> Box:
    kind, *sides = entry if isinstance(entry, list) and len(entry) == 5 else [None]
    try:
        numbers = [float(side) for side in sides if isinstance(side, int | float)]
    except OverflowError as error:
        raise refused from error
    if not isinstance(kind, int) or len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise refused
    return Box(label=kind, x=numbers[0], y=numbers[1], width=numbers[2], height=numbers[3])


begin_labelling, add_class, set_label = posted(begin), posted(new_class), posted(label)
