"""Try it: a picture, or what the camera sees, as a trained network sees it."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from opsin.io.images import decode_image, encode_png
from opsin.server.body import Upload, read_uploads
from opsin.server.limits import Limits
from opsin.server.refusal import RequestError
from opsin.studio.pages import page
from opsin.studio.state import Answerer, studio_of

if TYPE_CHECKING:
    import numpy as np

    from opsin.inference.predictor import Fitted

LIMITS = Limits(max_images=1)
LEAST_PX = 256
"""Pictures of an answer are enlarged to at least this."""


def show(request: Request) -> Response:
    """The page."""
    studio, name = studio_of(request), request.path_params["name"]
    answerer = studio.answerer(name)
    classes = answerer.artifact.classes
    task = answerer.predictor.task
    drawn = task.pixelwise or task.gives_boxes
    return page(request, "try.html", name=name, classes=classes, drawn=drawn, task=task.name)


async def predict(request: Request) -> Response:
    """What the network says of one picture: shares of the classes, and a drawing where it answers by boxes or masks."""
    upload = await _one(request)
    answerer = await run_in_threadpool(studio_of(request).answerer, request.path_params["name"])
    return await run_in_threadpool(_predict, answerer, upload)


async def explain(request: Request) -> Response:
    """Where the network looks in one picture: Grad-CAM over it, or the gradient where there are no maps."""
    upload = await _one(request)
    answerer = await run_in_threadpool(studio_of(request).answerer, request.path_params["name"])
    return await run_in_threadpool(_explain, answerer, upload)


async def _one(request: Request) -> Upload:
    try:
        async with asyncio.timeout(LIMITS.timeout_s):
            return (await read_uploads(request, LIMITS))[0]
    except TimeoutError as error:
        raise RequestError(408, "the request took too long") from error


def _predict(answerer: Answerer, upload: Upload) -> Response:
    from opsin.ops.depth import as_batch, at_depth

    predictor = answerer.predictor
    fitted = _fitted(answerer, upload)
    with answerer.lock:
        said = predictor.answers([fitted])[0]
        answer: dict[str, Any] = said.to_json() | {"file": ""}
        if predictor.task.pixelwise or predictor.task.gives_boxes:
            found = predictor.run(as_batch(fitted.pixels[None]))
            drawing = predictor.task.draw_prediction(at_depth(fitted.pixels, 8), found, 0, answerer.artifact.classes)
            answer |= {"picture": _address(drawing.pixels), "caption": drawing.caption}
    return JSONResponse(answer)


def _explain(answerer: Answerer, upload: Upload) -> Response:
    fitted = _fitted(answerer, upload)
    with answerer.lock:
        found = answerer.explainer.heat(fitted.pixels)
    return JSONResponse({"picture": _address(found.picture), "words": found.words})


def _fitted(answerer: Answerer, upload: Upload) -> Fitted:
    """The picture as the network takes it, as `opsin predict` reads it."""
    predictor = answerer.predictor
    image = decode_image(upload.data, upload.name, sides=predictor.sides, bits=predictor.bits)
    return predictor.fit(image, upload.name)


def _address(pixels: np.ndarray) -> str:
    """A picture as a data address, enlarged by a whole factor where it is small."""
    factor = max(1, -(-LEAST_PX // max(pixels.shape[1:])))
    enlarged = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    return "data:image/png;base64," + base64.b64encode(encode_png(enlarged)).decode()
