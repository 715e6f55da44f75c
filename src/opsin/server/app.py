"""The ASGI application: from a request to the JSON that `opsin predict --json` prints.

guard ── limits ── body ── decode, fit (threads) ── batch (one thread per network) ── JSON
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opsin.artifact import Artifact
from opsin.errors import ImageError
from opsin.inference.predictor import Fitted, Predictor, skipped_file
from opsin.io.files import as_json as plain
from opsin.io.images import Limits as ImageLimits
from opsin.io.images import decode_image
from opsin.server.batching import WAIT_S, Batcher
from opsin.server.body import Upload, read_uploads
from opsin.server.guard import Guard
from opsin.server.limits import Limits
from opsin.server.metrics import CONTENT_TYPE, Metrics
from opsin.server.openapi import description
from opsin.server.refusal import RequestError, as_json
from opsin.types import Skipped

Endpoint = Callable[[Request], Awaitable[Response]]
NUM_DECODERS = 2
"""Images decoded concurrently; each may take the memory of a large photo."""


class Service:
    """Networks that serve requests.

    Args:
        models: networks by name; requests that name none go to the first.
        guard: access check.
        limits: limits of one request.
        device: device of the networks.
        wait_s: how long the first image of a batch waits for others.
    """

    def __init__(
        self,
        models: Mapping[str, Artifact],
        *,
        guard: Guard,
        limits: Limits | None = None,
        device: torch.device | str = "cpu",
        wait_s: float = WAIT_S,
    ) -> None:
        self.guard, self.limits, self.metrics = guard, limits or Limits(), Metrics()
        self._image_limits = ImageLimits(max_pixels=self.limits.max_pixels, max_bytes=self.limits.max_bytes)
        self._decoders = CapacityLimiter(NUM_DECODERS)
        self.batchers = {
            name: Batcher(Predictor(artifact, device=device), wait_s=wait_s, observe=self.metrics.batch)
            for name, artifact in models.items()
        }
        self.description = description(tuple(models), self.limits, needs_token=guard.token is not None)

    def stop(self) -> None:
        """Stop the threads after submitted jobs are answered."""
        for batcher in self.batchers.values():
            batcher.stop()

    def endpoint(self, path: str, answer: Endpoint, *, guarded: bool = True) -> Endpoint:
        """`answer` behind the guard, with refusals as JSON and metrics."""

        async def respond(request: Request) -> Response:
            start = time.perf_counter()
            try:
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

    async def predict(self, request: Request) -> Response:
        """Predictions of the images in the body."""
        batcher = self._batcher(request)
        if self.metrics.in_flight >= self.limits.max_requests:
            raise RequestError(429, "too many concurrent requests", do="try again later", headers={"Retry-After": "1"})
        self.metrics.in_flight += 1
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                uploads = await read_uploads(request, self.limits)
                return await self._answer(batcher, uploads)
        except TimeoutError as error:
            raise RequestError(
                408, "the request took too long", expected=f"at most {self.limits.timeout_s:g} s"
            ) from error
        finally:
            self.metrics.in_flight -= 1

    async def _answer(self, batcher: Batcher, uploads: list[Upload]) -> Response:
        fitted: list[Fitted] = []
        skipped: list[Skipped] = []
        for upload in uploads:
            try:
                fitted.append(
                    await to_thread.run_sync(
                        self._fit, batcher.predictor, upload, limiter=self._decoders, abandon_on_cancel=True
                    )
                )
            except ImageError as error:
                if len(uploads) == 1:
                    return _json(as_json(error), 400)
                skipped.append(skipped_file(_path(upload), error))
        found = await asyncio.wrap_future(batcher.submit(fitted)) if fitted else []
        predictions = [prediction.to_json() for prediction in found]
        return _json({"predictions": predictions, "skipped": [asdict(file) for file in skipped]})

    def _fit(self, predictor: Predictor, upload: Upload) -> Fitted:
        image = decode_image(upload.data, upload.name, self._image_limits, sides=predictor.sides)
        return predictor.fit(image, str(_path(upload)))

    def _batcher(self, request: Request) -> Batcher:
        name = request.query_params.get("model", next(iter(self.batchers)))
        if name not in self.batchers:
            raise RequestError(404, "no such model", got=name, expected=", ".join(self.batchers))
        return self.batchers[name]

    async def health(self, _: Request) -> Response:
        """Liveness; needs no token."""
        return _json({"status": "ok"})

    async def metrics_text(self, _: Request) -> Response:
        """The metrics."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

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
        route("/health", service.health, guarded=False),
        route("/metrics", service.metrics_text),
        route("/openapi.json", service.openapi),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _path(upload: Upload) -> Path:
    return Path(upload.name)


def _json(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document as `cli.output.print_json` prints it."""
    text = json.dumps(plain(dict(document)), indent=2, allow_nan=False) + "\n"
    return Response(text, status, dict(headers or {}), "application/json")
