"""From templates to answers, and from requests to checked values. Everything in a page is escaped, as in reports."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import jinja2
import numpy as np
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from opsin.errors import OpsinError, RefusedError
from opsin.io.images import encode_jpeg, encode_png
from opsin.report import render as report_render
from opsin.report.render import SHARP_BELOW
from opsin.server.body import read_body
from opsin.server.limits import Limits
from opsin.server.refusal import RequestError, as_json

PAGE_SIZE = 48
"""Images on a page of a grid."""
FORM_LIMITS = Limits(max_bytes=64 * 1024)
MAX_FIELDS = 400
HTMX = "hx-request"
NAVIGATION = (
    ("/", "Home"),
    ("/train", "Train"),
    ("/teach", "Teach"),
    ("/compare", "Compare"),
    ("/kernels", "Kernels"),
    ("/planner", "Planner"),
    ("/labs", "Labs"),
)
"""Addresses and titles of the pages that each page links to."""
Form = Mapping[str, str]


@cache
def environment() -> jinja2.Environment:
    """The report's environment, with its escaping and filters, over the studio's own templates first."""
    base = report_render.environment()
    assert base.loader is not None
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader("opsin.studio"), base.loader])
    made = base.overlay(loader=loader)
    made.filters = base.filters | {"code": with_code}
    made.globals = base.globals | {"navigation": NAVIGATION}
    return made


def with_code(text: str) -> Markup:
    """Text in which what stands between backticks becomes code; everything is escaped.

    >>> print(with_code("`mnist` under <ROOT>"))
    <code>mnist</code> under &lt;ROOT&gt;
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A template as an answer; `path` is that of the request."""
    text = environment().get_template(template).render(path=request.url.path, **values)
    return HTMLResponse(text, status)


def wants_part(request: Request) -> bool:
    """Whether htmx asks, which puts the answer into a page."""
    return HTMX in request.headers


def refusal(request: Request, error: Exception) -> Response:
    """What is refused, in words: what, where, got, expected, do."""
    if isinstance(error, OpsinError):
        status = error.status if isinstance(error, RequestError) else 400 if isinstance(error, RefusedError) else 500
    else:
        status = error.status_code if isinstance(error, HTTPException) else 500
        error = OpsinError(
            "there is no such page" if status in (404, 405) else "a fault in Opsin", where=request.url.path
        )
    if request.headers.get("accept") == "application/json":
        return JSONResponse(as_json(error), status)
    part = wants_part(request)
    return page(request, "refusal_part.html" if part else "refusal.html", status, error=error)


def to(path: str) -> Response:
    """The way to another page, after a form."""
    return RedirectResponse(path, 303)


def address(*parts: str | int, **query: object) -> str:
    """An address of the studio; parts and values are quoted, values that are None or empty are left out.

    >>> address("runs", "a b", "errors", page=2, true=None)
    '/runs/a%20b/errors?page=2'
    """
    path = "/" + "/".join(quote(str(part), safe="") for part in parts)
    asked = {key: value for key, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(asked)}" if asked else path


def posted(answer: Callable[[Request, Form], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that reads the fields of a small form, and answers in a thread."""

    async def endpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(FORM_LIMITS.timeout_s):
                form = await read_form(request)
        except TimeoutError as error:
            raise RequestError(408, "the form took too long") from error
        return await run_in_threadpool(answer, request, form)

    endpoint.__name__ = answer.__name__
    return endpoint


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form without files; of fields of one name the last, or all, with commas between them.

    Raises:
        RequestError: 413 too large, 400 no form.
    """
    body = await read_body(request, FORM_LIMITS.max_bytes)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise RequestError(400, "this is no form", got=str(error)) from error
    found: dict[str, str] = {}
    for key, value in pairs:
        found[key] = f"{found[key]},{value}" if key in found else value
    return found


def whole(values: Mapping[str, str], name: str, default: int, *, low: int = 0, high: int = 10**9) -> int:
    """A whole number from a form or an address; `default` where it is left out.

    Raises:
        RequestError: 400, it is none, or out of range.
    """
    text = values.get(name, "").strip()
    if not text:
        return default
    if not text.removeprefix("-").isdecimal() or len(text) > 12 or not low <= int(text) <= high:
        raise RequestError(400, "not a number that fits here", where=name, got=text[:40], expected=f"{low} to {high}")
    return int(text)


def number(values: Mapping[str, str], name: str, *, low: float, high: float) -> float | None:
    """A number from a form or an address; None where it is left out.

    Raises:
        RequestError: 400, it is none, or out of range.
    """
    text = values.get(name, "").strip().replace(",", ".")
    if not text:
        return None
    refused = RequestError(
        400, "not a number that fits here", where=name, got=text[:40], expected=f"{low:g} to {high:g}"
    )
    try:
        value = float(text)
    except ValueError as error:
        raise refused from error
    if not low <= value <= high:
        raise refused
    return value


def choice(values: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """One of some values; the first where it is left out.

    Raises:
        RequestError: 400, another one.
    """
    value = values.get(name) or choices[0]
    if value not in choices:
        raise RequestError(
            400, "not one of the choices", where=name, got=value[:100], expected=", ".join(choices)[:400]
        )
    return value


@dataclass(frozen=True, kw_only=True)
class Pager:
    """One page of many: `number` from 1, and the numbers of the first and of one after the last item on it."""

    number: int
    total: int
    size: int = PAGE_SIZE

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.size))

    @property
    def span(self) -> range:
        start = (min(self.number, self.pages) - 1) * self.size
        return range(start, min(start + self.size, self.total))


def pager(request: Request, total: int, size: int = PAGE_SIZE) -> Pager:
    """The page that the address of a request asks for; one after the last is the last."""
    asked = whole(request.query_params, "page", 1, low=1)
    pages = max(1, -(-total // size))
    return Pager(number=min(asked, pages), total=total, size=size)


def picture(pixels: np.ndarray, *, seconds: int = 3600) -> Response:
    """Pixels uint8 [C, H, W] as an image that the browser keeps for some time; small ones without loss."""
    sharp = min(pixels.shape[1:]) < SHARP_BELOW
    color = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
    data, kind = (encode_png(pixels), "image/png") if sharp else (encode_jpeg(color, quality=88), "image/jpeg")
    return Response(data, media_type=kind, headers={"Cache-Control": f"private, max-age={seconds}"})


@cache
def stylesheet() -> str:
    """The report's style, under the studio's own."""
    own = (files("opsin.studio") / "static" / "studio.css").read_text(encoding="utf-8")
    return report_render.source("figures.css") + report_render.source("page.css") + own
