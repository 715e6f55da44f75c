"""The ASGI application: from a request to the JSON that `opsin predict --json` prints.

guard ── limits ── body ── decode, fit (threads) ── batch (one thread per model) ── JSON
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opsin.errors import ImageError
from opsin.inference.predictor import Fitted, Predictor, skipped_file
from opsin.io.files import as_json as plain
from opsin.io.images import Limits as ImageLimits
from opsin.io.images import decode_image, encode_png
from opsin.progress import QUIET, Reporter
from opsin.server.batching import WAIT_S, Batcher
from opsin.server.body import Upload, read_uploads
from opsin.server.guard import Guard
from opsin.server.limits import Limits
from opsin.server.metrics import CONTENT_TYPE, Metrics
from opsin.server.model import POLL_S, Model, Network, Watch
from opsin.server.openapi import description
from opsin.server.refusal import RequestError, as_json
from opsin.types import Skipped
from opsin.units import bytes_text

Endpoint = Callable[[Request], Awaitable[Response]]
Found = list[dict[str, object]]
Answer = Callable[[Batcher, Network, Sequence[Fitted]], Awaitable[Found]]
"""What is found about fitted images, in order."""
NUM_DECODERS = 2
"""Images and JSON bodies that are decoded at the same time; each may take the memory of a large photo. One that was
begun runs to its end even where its request was given up, and keeps its place until then."""


class Service:
    """Networks that serve requests.

    Args:
        folders: their artefacts by name; requests that name none go to the first.
        guard: access check.
        limits: limits of one request.
        device: device of the networks.
        wait_s: how long the first image of a batch waits for others.
        poll_s: seconds between two looks for networks that were trained again.
        report: shows which network was replaced, and which could not be.

    Raises:
        ArtifactError: an artefact is damaged, or incomplete.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        *,
        guard: Guard,
        limits: Limits | None = None,
        device: torch.device | str = "cpu",
        wait_s: float = WAIT_S,
        poll_s: float = POLL_S,
        report: Reporter = QUIET,
    ) -> None:
        self.guard, self.limits, self.metrics = guard, limits or Limits(), Metrics()
        self._image_limits = ImageLimits(max_pixels=self.limits.max_pixels, max_bytes=self.limits.max_bytes)
        self._decoders = ThreadPoolExecutor(NUM_DECODERS, thread_name_prefix="opsin-decode")
        self.models: dict[str, Model] = {}
        for name, folder in folders.items():
            self.models[name] = Model(name, folder, device=device, wait_s=wait_s, observe=self.metrics.batch)
        self._watch = Watch(self.models.values(), poll_s=poll_s, report=report)
        self.description = description(tuple(folders), self.limits, needs_token=guard.token is not None)

    def stop(self) -> None:
        """End the threads, after what was submitted is answered."""
        self._watch.stop()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        for model in self.models.values():
            model.batcher.stop()

    def endpoint(self, path: str, answer: Endpoint, *, guarded: bool = True) -> Endpoint:
        """`answer` behind the guard, with refusals as JSON and metrics."""

        async def respond(request: Request) -> Response:
            start = time.perf_counter()
            try:
                self._check_head(request)
                if guarded:
                    self.guard.check(request)
                response = await answer(request)
            except RequestError as error:
                response = _json(as_json(error), error.status, error.headers)
            except Exception:
                self.metrics.request(path, 500, time.perf_counter() - start)
                raise
            self.metrics.request(path, response.status_code, time.perf_counter() - start)
            return response

        return respond

    def _check_head(self, request: Request) -> None:
        most = self.limits.max_head_bytes
        if sum(len(name) + len(value) for name, value in request.headers.raw) > most:
            raise RequestError(431, "the headers are too large", expected=f"at most {bytes_text(most)}")

    async def predict(self, request: Request) -> Response:
        """Predictions of the images in the body."""
        return await self._about_images(request, "predictions", self._predicted)

    async def explain(self, request: Request) -> Response:
        """Where the network looks in the images in the body: Grad-CAM over each."""
        return await self._about_images(request, "explanations", self._explained)

    async def _about_images(self, request: Request, key: str, answer: Answer) -> Response:
        """What `answer` finds about the images in the body, under `key`, within the limits."""
        model = self._model(request)
        network = model.network  # kept to the end, though another may be loaded meanwhile
        if self.metrics.in_flight >= self.limits.max_requests:
            raise RequestError(429, "too many concurrent requests", do="try again later", headers={"Retry-After": "1"})
        self.metrics.in_flight += 1
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                uploads = await read_uploads(request, self.limits, self._decoders)
                fitted, skipped = await self._fitted(network.predictor, uploads)
                found = await answer(model.batcher, network, fitted) if fitted else []
        except TimeoutError as error:
            raise RequestError(
                408, "the request took too long", expected=f"at most {self.limits.timeout_s:g} s"
            ) from error
        finally:
            self.metrics.in_flight -= 1
        return _json({key: found, "skipped": [asdict(file) for file in skipped]})

    async def _fitted(self, predictor: Predictor, uploads: list[Upload]) -> tuple[list[Fitted], list[Skipped]]:
        """The images at the network's size, and those that cannot be read.

        Raises:
            RequestError: 400, the only image cannot be read.
        """
        fitted: list[Fitted] = []
        skipped: list[Skipped] = []
        for upload in uploads:
            try:
                waiting = self._decoders.submit(self._fit, predictor, upload)
                fitted.append(await asyncio.wrap_future(waiting))  # cancelled with the request, unless it was begun
            except ImageError as error:
                if len(uploads) == 1:
                    raise RequestError.of(400, error) from error
                skipped.append(skipped_file(_path(upload), error))
        return fitted, skipped

    def _fit(self, predictor: Predictor, upload: Upload) -> Fitted:
        limits, sides, bits = self._image_limits, predictor.sides, predictor.bits
        image = decode_image(upload.data, upload.name, limits, sides=sides, bits=bits)
        return predictor.fit(image, str(_path(upload)))

    async def _predicted(self, batcher: Batcher, network: Network, images: Sequence[Fitted]) -> Found:
        found = await asyncio.wrap_future(batcher.submit(network.predictor, images))
        return [prediction.to_json() for prediction in found]

    async def _explained(self, batcher: Batcher, network: Network, images: Sequence[Fitted]) -> Found:
        # one call for each image, so that batches of predictions run between them
        calls = [batcher.call(partial(_explanation, network, image)) for image in images]
        return await asyncio.gather(*map(asyncio.wrap_future, calls))

    def _model(self, request: Request) -> Model:
        name = request.query_params.get("model", next(iter(self.models)))
        if name not in self.models:
            raise RequestError(404, "no such model", got=name, expected=", ".join(self.models))
        return self.models[name]

    async def health(self, request: Request) -> Response:
        """Liveness, which needs no token; the state of each model, which does."""
        models = {name: model.status() for name, model in self.models.items()}
        stale = any(model.problem is not None for model in self.models.values())
        status: dict[str, object] = {"status": "stale" if stale else "ok"}
        try:
            self.guard.check(request)
        except RequestError:
            return _json(status)
        return _json(status | {"models": models})

    async def metrics_text(self, _: Request) -> Response:
        """The metrics."""
        reloads = {name: (model.num_reloads, model.num_failed_reloads) for name, model in self.models.items()}
        return Response(self.metrics.text(reloads), media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """The OpenAPI description."""
        return _json(self.description)


def make_app(service: Service) -> Starlette:
    """The ASGI application of a service; it stops the service on shutdown."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(service.stop)

    def route(path: str, answer: Endpoint, method: str = "GET", *, guarded: bool = True) -> Route:
        return Route(path, service.endpoint(path, answer, guarded=guarded), methods=[method])

    routes = [
        route("/predict", service.predict, "POST"),
        route("/explain", service.explain, "POST"),
        route("/health", service.health, guarded=False),
        route("/metrics", service.metrics_text),
        route("/openapi.json", service.openapi),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect would repeat the Host header unchecked
    return app


def _explanation(network: Network, image: Fitted) -> dict[str, object]:
    found = network.explainer.heat(image.pixels)
    picture = base64.b64encode(encode_png(found.picture)).decode()
    told = {"method": found.method, "quantity": found.quantity, "value": found.value}
    return {"file": image.name} | told | {"picture": picture, "notes": image.notes}


def _path(upload: Upload) -> Path:
    return Path(upload.name)


def _json(document: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as `cli.output.print_json` prints it."""
    text = json.dumps(plain(dict(document)), indent=2, allow_nan=False) + "\n"
    return Response(text, status, dict(headers or {}), "application/json")
