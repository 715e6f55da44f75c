"""The page beside an ONNX file: it resizes as Opsin does, and runs the file in a browser."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opsin.errors import ConfigError, InputError
from opsin.exports.exporting import export_model
from opsin.exports.web_page import FILES, RUNTIME, runtime_files, write_page
from opsin.io.images import read_image
from opsin.ops.resize import fit_image
from opsin.runs import Run
from opsin.training import train
from opsin.types import SizePolicy

NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RUNTIME_PATH = os.environ.get("OPSIN_ORT_WEB")
"""The package onnxruntime-web, as `npm pack` leaves it or unpacked."""
PAGE = Path(__file__).parents[2] / "src/opsin/exports/page"
SETTINGS = {"epochs": 1, "subset": "train=100,val=40", "precision": "float32", "channels_last": True, "threads": 1}
SIZES = ((24, 31), (100, 37), (7, 9), (200, 311), (1, 5))
NUM_IMAGES = 30
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs")
    return train("digits", name="digits", out=out, quiet=True, filters=[8], **SETTINGS)


@pytest.fixture(scope="module")
def one_answer() -> Iterator[ModuleType]:
    """The benchmark, whose small version this is."""
    file = Path(__file__).parents[2] / "benchmarks/one_answer.py"
    spec = importlib.util.spec_from_file_location("one_answer", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.skipif(NODE is None, reason="no Node.js on this machine")
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_page_fits_images_bit_for_bit_as_opsin_does(fit: str, channels: int, tmp_path: Path) -> None:
    policy = SizePolicy(height=24, width=31, fit=fit, crop_share=0.875)  # type: ignore[arg-type]
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (channels, *sides), dtype=np.uint8) for sides in SIZES]
    given = [
        {"height": i.shape[1], "width": i.shape[2], "channels": channels, "data": i.transpose(1, 2, 0).ravel().tolist()}
        for i in images
    ]
    (tmp_path / "given.json").write_text(json.dumps({"images": given, "size": vars(policy)}))
    script = (PAGE / "fit.js").read_text() + (
        'const given = JSON.parse(require("fs").readFileSync(process.argv[2]));'
        "console.log(JSON.stringify(given.images.map((i) => Array.from(fitted(i, given.size).pixels))));"
    )
    (tmp_path / "fit.cjs").write_text(script)
    done = subprocess.run(
        [str(NODE), "fit.cjs", "given.json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for image, found in zip(images, json.loads(done.stdout), strict=True):
        assert np.array_equal(np.reshape(found, (channels, 24, 31)), fit_image(image, policy))


@pytest.mark.skipif(NODE is None, reason="no Node.js on this machine")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_page_turns_webp_upright_as_opsin_does(orientation: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = tmp_path / "photo.webp"
    Image.fromarray(pixels).save(file, lossless=True, exif=exif)
    rgba = np.dstack([pixels, np.full((5, 7), 255, np.uint8)])
    script = (PAGE / "upright.js").read_text() + (
        'const file = new Blob([require("fs").readFileSync("photo.webp")]);'
        f"const stored = {{ width: 7, height: 5, data: {rgba.ravel().tolist()} }};"
        "webpOrientation(file).then((found) => {"
        "  const { width, height, data } = upright(stored, found);"
        "  console.log(JSON.stringify({ found, width, height, data: Array.from(data) }));"
        "});"
    )
    (tmp_path / "upright.cjs").write_text(script)
    done = subprocess.run([str(NODE), "upright.cjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["found"] == orientation
    found = np.reshape(said["data"], (said["height"], said["width"], 4))[..., :3]
    assert np.array_equal(found, read_image(file).pixels.transpose(1, 2, 0))


def test_the_page_asks_for_nothing_but_its_own_folder() -> None:
    for name in FILES:
        addresses = re.findall(r"https?://[^\s\"'`]+", (PAGE / name).read_text())
        assert set(addresses) <= {"http://127.0.0.1:8000"}, name
    html = (PAGE / "index.html").read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) == [""] * 5
    assert not re.findall(r"\son\w+=|style=", html)


def test_without_the_runtime_the_page_says_how_to_fetch_it(tmp_path: Path) -> None:
    write_page(tmp_path)
    told = (tmp_path / "ort.txt").read_text()
    assert told.startswith("npm pack onnxruntime-web@")
    assert all(name in told for name in RUNTIME)
    assert not (tmp_path / "ort").exists()


def test_another_runtime_than_the_one_that_was_tried_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    for name in RUNTIME:
        (tmp_path / "dist" / name).write_text("alert(1)")
    with pytest.raises(InputError, match=r"(?s)SHA-256.*npm pack onnxruntime-web"):
        export_model(run.model_folder, tmp_path / "made", page=tmp_path)
    assert not (tmp_path / "made").exists()
    with pytest.raises(InputError):
        runtime_files(tmp_path / "dist" / "nothing")
    with pytest.raises(ConfigError, match="--page"):
        export_model(run.model_folder, tmp_path / "made.onnx", page=tmp_path)


def test_thirty_images_of_all_kinds_get_one_answer_by_every_way(
    run: Run, one_answer: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    one_answer.make_images(folder, NUM_IMAGES, large=False)
    files = sorted(folder.iterdir())
    ways = dict(one_answer.all_ways(run, files, tmp_path))
    assert list(ways) == ["Python", "command", "HTTP", "ONNX", "torch.export"]
    for name, answers in ways.items():
        read, labels, largest = one_answer.compare(ways["Python"], answers)
        assert (read, labels) == (NUM_IMAGES, 0), name
        assert largest <= one_answer.TOLERANCE, name


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.skipif(RUNTIME_PATH is None, reason="OPSIN_ORT_WEB does not name the package onnxruntime-web")
def test_the_page_answers_in_a_browser_as_opsin_does(run: Run, one_answer: ModuleType, tmp_path: Path) -> None:
    sync_api: Any = pytest.importorskip("playwright.sync_api")
    made = export_model(run.model_folder, tmp_path / "made", page=Path(str(RUNTIME_PATH)), seconds=0.01)
    rng = np.random.default_rng(0)
    files = []
    small, even, odd = (15, 20), (304, 200), (301, 199)  # of 200 pixels a JPEG is decoded at 1/8 of its sides
    kinds = [
        (kind, small, 6) for kind in ("png", "png-alpha", "png-palette", "bmp", "gif", "jpeg", "jpeg-grey", "webp")
    ]
    kinds += [("jpeg", even, 6), ("jpeg-444", odd, 1), ("jpeg-progressive", odd, 1), ("jpeg-grey", even, 8)]
    kinds += [("jpeg-cmyk", odd, 1), ("jpeg", odd, 3), ("png-16-bits", small, 1), ("png-16-bits", odd, 1)]
    for number, (kind, sides, orientation) in enumerate(kinds):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        suffix, encode = one_answer.KINDS[kind]
        files.append(tmp_path / f"{number}-{kind}{suffix}")
        files[-1].write_bytes(encode(one_answer.picture(rng, sides, ()), exif))
    assert made.folder is not None
    read, labels, largest = one_answer.compare(
        one_answer.by_python(run, files), one_answer.by_browser(made.folder, files, sync_api)
    )
    assert (read, labels) == (len(files), 0)
    assert largest <= one_answer.TOLERANCE
