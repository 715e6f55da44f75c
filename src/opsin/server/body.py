"""The images in a request's body: raw, multipart or JSON; nothing is read beyond the limits.

| Content-Type | body |
|---|---|
| multipart/form-data | one file or more, in fields of any name |
| application/json | {"image": BASE64} or {"images": [{"name": TEXT, "data": BASE64}, …]} |
| image/…, application/octet-stream, none | the bytes of one image file |
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from opsin.server.limits import Limits
from opsin.server.refusal import RequestError
from opsin.units import bytes_text

UNNAMED = "image"
"""Name of an image without a file name."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The bytes of an image file, and its name."""

    name: str
    data: bytes


async def read_uploads(request: Request, limits: Limits, decoders: Executor | None = None) -> list[Upload]:
    """The images of a request.

    Args:
        request: whose body is read.
        limits: of the body.
        decoders: threads in which JSON is parsed, so that other requests are answered meanwhile; by default asyncio's.

    Raises:
        RequestError: 413 too large or too many, 415 unsupported content type, 400 invalid body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await read_body(request, limits.max_bytes)
    if kind == "multipart/form-data":
        uploads = await _of_form(request, body, limits)
    elif kind == "application/json":
        uploads = await asyncio.get_running_loop().run_in_executor(decoders, _of_json, body)
    elif kind.startswith("image/") or kind in ("", "application/octet-stream"):
        uploads = [Upload(name=UNNAMED, data=body)] if body else []
    else:
        expected = "an image, multipart/form-data or application/json"
        raise RequestError(415, "unsupported content type", got=kind, expected=expected)
    if not uploads:
        raise RequestError(400, "the body contains no image", do="send an image, a form or JSON: see /openapi.json")
    if len(uploads) > limits.max_images:
        raise RequestError(
            413, "too many images in one request", got=len(uploads), expected=f"at most {limits.max_images}"
        )
    return uploads


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body; refused as soon as it exceeds the limit."""
    told = request.headers.get("content-length", "")
    too_large = RequestError(413, "the body is too large", expected=f"at most {bytes_text(max_bytes)}")
    if told.isdecimal() and int(told[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise too_large
    except ClientDisconnect as error:
        raise RequestError(400, "the client disconnected", do="send the request again") from error
    return bytes(body)


async def _of_form(request: Request, body: bytes, limits: Limits) -> list[Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=limits.max_images + 1, max_fields=limits.max_images)
    parser.spool_max_size = limits.max_bytes  # in memory: the body has been read already
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        status = 413 if "Too many" in str(error) else 400
        raise RequestError(
            status, "the multipart body is damaged", got=str(error), do="send it again as multipart/form-data"
        ) from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        return [Upload(name=file.filename or UNNAMED, data=await file.read()) for file in files]
    finally:
        await form.close()
        for begun in parser._files_to_close_on_error:
            begun.close()  # a part that was begun and has no end belongs to no form


def _of_json(body: bytes) -> list[Upload]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            400, "the body is not JSON", got=str(error)[:200], do="correct it, or send another content type"
        ) from error
    match document:
        case {"image": str() as data}:
            return [_decoded(UNNAMED, data)]
        case {"images": list() as entries}:
            return [_entry(i, entry) for i, entry in enumerate(entries)]
    raise RequestError(
        400, "the JSON contains no images", expected='{"image": BASE64} or {"images": [{"name": …, "data": …}]}'
    )


def _entry(i: int, entry: object) -> Upload:
    match entry:
        case {"data": str() as data, "name": str() as name}:
            return _decoded(name, data)
        case {"data": str() as data}:
            return _decoded(f"{UNNAMED} {i}", data)
    raise RequestError(400, "an image has no data", where=f"images[{i}]", expected='{"name": TEXT, "data": BASE64}')


def _decoded(name: str, data: str) -> Upload:
    try:
        return Upload(name=name, data=base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            400,
            "the image is not base64",
            where=name[:200],
            got=str(error),
            do="encode the bytes of the file in base64",
        ) from error
