"""A studio with two short runs, three uploaded classes, and a data set whose class is called like HTML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from opsin.api.training import train
from opsin.data.load import load
from opsin.io.images import encode_png
from opsin.studio.app import make_app
from opsin.studio.guard import StudioGuard
from opsin.studio.state import Studio

ADDRESS = "http://127.0.0.1:8200"
HOSTILE = "<img src=x onerror=alert(1)>"
PLAIN: dict[str, Any] = {
    "epochs": 1,
    "subset": "train=100,val=40",
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "quiet": True,
    "preflight": False,
}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the studio is opened in: `runs/digits`, `runs/scenes`, `photos/` with a hostile class."""
    folder = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(folder / "cache"))
        train("digits", name="digits", out=folder / "runs", **PLAIN, filters=[8])
        train("digit_scenes", name="scenes", out=folder / "runs", **PLAIN)
    generator = np.random.default_rng(0)
    for name in ("plain", HOSTILE):
        for i in range(12):
            path = folder / "photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(generator.integers(0, 256, (3, 24, 24), dtype=np.uint8)))
    return folder


@pytest.fixture
def studio(place: Path, tmp_path: Path) -> Studio:
    """A studio over `place`; what is uploaded goes into a folder of the test's own."""
    folders = {"runs": place / "runs", "folder": tmp_path / "studio", "labs": tmp_path / "labs"}
    return Studio(data=[str(place / "photos")], **folders)


@pytest.fixture
def client(studio: Studio) -> Iterator[TestClient]:
    """A browser on this machine."""
    app = make_app(studio, StudioGuard("127.0.0.1"))
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=True) as found:
        yield found


@pytest.fixture(scope="session")
def digit() -> bytes:
    """A handwritten digit as PNG."""
    return encode_png(load("digits").splits["val"].image(0))
