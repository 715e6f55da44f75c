"""A studio with two short runs, three uploaded classes, and a data set whose class is called like HTML."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
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

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
WAIT_MS = 120_000
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


@pytest.fixture
def opened() -> list[Path]:
    """Folders that the studio of a browser test is opened with."""
    return []


@pytest.fixture
def address(tmp_path: Path, opened: list[Path]) -> Iterator[str]:
    """Of a studio in a process of its own."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    options = ["--port", "0", "--no-browser", "--json"]
    command = [sys.executable, "-m", "opsin", "studio", *map(str, opened), *options]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        told = next(line for line in process.stdout if '"address"' in line)
        yield told.split('"')[3]
        process.terminate()
        process.wait(WAIT_MS / 1000)


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """A page of Chromium, with a camera that shows a test picture; an error in a script fails the test.

    It is closed before the studio at `address` ends.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        found = browser.new_page(viewport={"width": 1280, "height": 900})
        found.set_default_timeout(WAIT_MS)
        faults: list[str] = []
        found.on("pageerror", lambda error: faults.append(str(error)))
        found.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        yield found
        browser.close()
        assert not faults


@pytest.fixture
def expect(page: Any) -> Callable[[str], Any]:
    """Playwright's assertions on the element of a selector.

    They take the place of `wait_for_function`: Playwright 1.50 polls by evaluating text in the page, which the policy
    of the studio forbids.
    """
    asserted = pytest.importorskip("playwright.sync_api").expect
    asserted.set_options(timeout=WAIT_MS)
    return lambda selector: asserted(page.locator(selector))
