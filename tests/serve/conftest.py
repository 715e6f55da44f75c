"""Two small runs, images, and a server of them inside the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from opsin.api.deployment import service_of
from opsin.data.load import load as load_data
from opsin.io.images import encode_png
from opsin.runs import Run
from opsin.server.app import make_app
from opsin.training import train

PLAIN = {"epochs": 1, "subset": "train=100,val=40", "precision": "float32", "channels_last": True, "threads": 1}
ADDRESS = "http://127.0.0.1:8000"
Connect = Callable[..., TestClient]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    out = tmp_path_factory.mktemp("runs")
    digits = train("digits", name="digits", out=out, quiet=True, **PLAIN, filters=[8])
    return [digits, train("digit_scenes", name="scenes", out=out, quiet=True, **PLAIN)]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, split = tmp_path_factory.mktemp("photos"), load_data("digits").splits["val"]
    made = [folder / f"{i}.png" for i in range(6)]
    for i, path in enumerate(made):
        path.write_bytes(encode_png(split.image(i)))
    return made


@pytest.fixture
def connect(runs: list[Run]) -> Iterator[Connect]:
    """Makes a client of a new server; its settings are those of `service_of`, for `models` instead of `runs`."""
    clients: list[TestClient] = []

    def made(*models: Any, **settings: Any) -> TestClient:
        service = service_of(*(models or runs), device="cpu", **settings)
        clients.append(TestClient(make_app(service), base_url=ADDRESS).__enter__())
        clients[-1].service = service  # type: ignore[attr-defined]
        return clients[-1]

    yield made
    for client in clients:
        client.__exit__(None, None, None)
