"""One answer: the same images through Python, the command line, HTTP, ONNX, torch.export and the browser.

python benchmarks/one_answer.py RUN --images 500 --photos flower_photos --runtime onnxruntime-web-1.30.0.tgz

Prints, for each pair of ways, how many images both read, how many labels differ and the largest difference of a
score; then, of the ways that differ from Python by more than 1e-4, which kinds of image do.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import io
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from PIL import Image

import opsin
from opsin.api.opening import opened_run
from opsin.artifact import load_proved
from opsin.exports.formats import answering
from opsin.inference.predictor import Predictor, image_files
from opsin.io.files import atomic_folder
from opsin.io.images import read_image
from opsin.runs import Run

TOLERANCE = 1e-4
ORIENTATION = 0x0112
SIDES = ((8, 8), (9, 31), (33, 20), (64, 64), (120, 77), (224, 224), (301, 199), (480, 640), (1201, 799))
LARGE = ((2000, 3000), (3024, 4032))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WAIT_MS = 120_000


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one way says of an image.

    `label`: its first class. `scores`: the score of each class that it tells, at least the five likeliest.
    """

    label: str
    scores: dict[str, float]


Answers = dict[str, Said]
"""By file name; files that a way cannot read are missing."""


def picture(rng: np.random.Generator, sides: tuple[int, int], photos: Sequence[Path]) -> Image.Image:
    """An image of RGB of these sides: a part of a photo, or smooth colours."""
    height, width = sides
    if photos and rng.random() < 0.8:
        with Image.open(photos[int(rng.integers(len(photos)))]) as photo:
            return photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def _clear(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bits."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257 + 100)


def _saved(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)  # type: ignore[arg-type]
    return file.getvalue()


Kind = Callable[[Image.Image, Image.Exif], bytes]
KINDS: dict[str, tuple[str, Kind]] = {
    "jpeg": (".jpg", lambda image, exif: _saved(image, format="JPEG", quality=90, exif=exif)),
    "jpeg-444": (".jpg", lambda image, exif: _saved(image, format="JPEG", quality=95, subsampling=0, exif=exif)),
    "jpeg-progressive": (".jpeg", lambda image, exif: _saved(image, format="JPEG", progressive=True, exif=exif)),
    "jpeg-grey": (".jpg", lambda image, exif: _saved(image.convert("L"), format="JPEG", exif=exif)),
    "jpeg-cmyk": (".jpg", lambda image, exif: _saved(image.convert("CMYK"), format="JPEG")),
    "png": (".png", lambda image, exif: _saved(image, format="PNG", exif=exif)),
    "png-grey": (".png", lambda image, exif: _saved(image.convert("L"), format="PNG", exif=exif)),
    "png-grey-alpha": (".png", lambda image, exif: _saved(_clear(image).convert("LA"), format="PNG")),
    "png-alpha": (".png", lambda image, exif: _saved(_clear(image), format="PNG")),
    "png-palette": (".png", lambda image, exif: _saved(image.quantize(64), format="PNG")),
    "png-1-bit": (".png", lambda image, exif: _saved(image.convert("1"), format="PNG")),
    "png-16-bits": (".png", lambda image, exif: _saved(_deep(image), format="PNG")),
    "webp": (".webp", lambda image, exif: _saved(image, format="WEBP", quality=85, exif=exif)),
    "webp-alpha": (".webp", lambda image, exif: _saved(_clear(image), format="WEBP", lossless=True)),
    "bmp": (".bmp", lambda image, exif: _saved(image, format="BMP")),
    "gif": (".gif", lambda image, exif: _saved(image, format="GIF")),
    "gif-frames": (".gif", lambda image, exif: _saved(image, format="GIF", save_all=True, append_images=[image])),
    "ppm": (".ppm", lambda image, exif: _saved(image, format="PPM")),
    "pgm": (".pgm", lambda image, exif: _saved(image.convert("L"), format="PPM")),
    "tiff": (".tif", lambda image, exif: _saved(image, format="TIFF", exif=exif)),
    "tiff-16-bits": (".tiff", lambda image, exif: _saved(_deep(image), format="TIFF")),
    "avif": (".avif", lambda image, exif: _saved(image, format="AVIF", exif=exif)),
}
"""Suffix and encoder of each kind of image; those that take `exif` are also turned by it."""
TURNED = tuple(kind for kind in KINDS if kind.split("-")[0] in ("jpeg", "webp", "tiff", "avif") or kind == "png")


def _heic() -> Kind | None:
    try:
        import pillow_heif
    except ImportError:
        return None
    pillow_heif.register_heif_opener()
    return lambda image, exif: _saved(image, format="HEIF", quality=90)


def make_images(folder: Path, count: int, photos: Sequence[Path] = (), *, large: bool = True) -> None:
    """Images of every kind, in turn of every size and EXIF orientation; `large` adds two of 6 and 12 megapixels."""
    rng, kinds = np.random.default_rng(0), dict(KINDS)
    if (heic := _heic()) is not None:
        kinds["heic"] = (".heic", heic)
    for number, (kind, (suffix, encode)) in zip(range(count), itertools.cycle(kinds.items()), strict=False):
        turn, exif = number // len(kinds), Image.Exif()
        sides = SIDES[(number + turn) % len(SIDES)]
        if large and number % 97 == 96:
            sides, (suffix, encode), kind = LARGE[number // 97 % 2], KINDS["jpeg"], "jpeg-large"
        if kind == "heic":
            sides = (max(sides[0], 64), max(sides[1], 64))  # its encoder takes no fewer
        if kind in TURNED:
            exif[ORIENTATION] = turn % 8 + 1
        (folder / f"{number:04d}_{kind}{suffix}").write_bytes(encode(picture(rng, sides, photos), exif))


def of_predictions(predictions: Sequence[dict[str, object]]) -> Answers:
    """Answers from predictions as JSON."""
    found = {}
    for one in predictions:
        top = one["top"]
        assert isinstance(top, list | tuple)
        found[Path(str(one["file"])).name] = Said(label=str(top[0][0]), scores={str(k): float(v) for k, v in top})
    return found


def by_python(run: Run, files: Sequence[Path]) -> Answers:
    found = run.predict(list(files), device="cpu")
    assert isinstance(found, list)
    return of_predictions([one.to_json() for one in found])


def by_command(run: Run, files: Sequence[Path]) -> Answers:
    command = [sys.executable, "-m", "opsin", "predict", str(run.path), *map(str, files)]
    done = subprocess.run([*command, "--json", "--device", "cpu"], capture_output=True, text=True, check=True)
    return of_predictions(json.loads(done.stdout)["predictions"])


def by_http(run: Run, files: Sequence[Path]) -> Answers:
    command = [sys.executable, "-m", "opsin", "serve", str(run.path), "--port", "0", "--device", "cpu", "--json"]
    found: Answers = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = next(line for line in process.stdout if "http://" in line)
            address = "http://" + told.partition("http://")[2].partition('"')[0].strip() + "/predict"
            for file in files:
                request = urllib.request.Request(address, data=file.read_bytes(), method="POST")
                request.add_header("Content-Type", "application/octet-stream")
                with urllib.request.urlopen(request) as response:
                    (one,) = json.load(response)["predictions"]
                found |= of_predictions([one | {"file": file.name}])
        finally:
            process.terminate()
            process.wait(60)
    return found


def by_script(folder: Path, files: Sequence[Path]) -> Answers:
    """`predict.py` beside the ONNX file, in a Python that does not see Opsin."""
    command = [sys.executable, "-I", str(folder / "predict.py"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return of_predictions([json.loads(line) for line in done.stdout.splitlines()])


def by_program(run: Run, file: Path, files: Sequence[Path]) -> Answers:
    """The torch.export program, of images that Opsin decoded and resized; one at a time."""
    artifact = load_proved(run.model_folder)
    predictor, answer, found = Predictor(artifact), answering("torch", file), {}
    for path in files:
        pixels = predictor.fit(read_image(path, sides=predictor.sides), path.name).pixels
        shares = answer(pixels[None])["probabilities"][0]
        scores = {name: float(share) for name, share in zip(artifact.classes, shares, strict=True)}
        found[path.name] = Said(label=artifact.classes[int(shares.argmax())], scores=scores)
    return found


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, as `python -m http.server` serves it."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def by_browser(folder: Path, files: Sequence[Path], sync_api: ModuleType) -> Answers:
    """The page beside the ONNX file, in Chromium."""
    found: Answers = {}
    with served(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(address)
        page.wait_for_selector("#file:not([disabled])")
        for file in files:
            page.set_input_files("#file", file)
            ask = "() => predict(document.getElementById('file').files[0]).then(f => f.top, () => null)"
            if (top := page.evaluate(ask)) is not None:
                found |= of_predictions([{"file": file.name, "top": top}])
        browser.close()
    return found


def all_ways(
    run: Run, files: Sequence[Path], scratch: Path, runtime: Path | None = None
) -> Iterator[tuple[str, Answers]]:
    """What each way says, one after the other; the browser only with `runtime`, the package onnxruntime-web."""
    onnx = opsin.export(run, file=scratch / "onnx", page=runtime)
    program = opsin.export(run, format="torch", file=scratch / "model.pt2")
    ways: dict[str, Callable[[], Answers]] = {
        "Python": lambda: by_python(run, files),
        "command": lambda: by_command(run, files),
        "HTTP": lambda: by_http(run, files),
        "ONNX": lambda: by_script(scratch / "onnx", files),
        "torch.export": lambda: by_program(run, program.file, files),
    }
    if runtime is not None:
        from playwright import sync_api

        assert onnx.folder is not None
        ways["browser"] = lambda: by_browser(scratch / "onnx", files, sync_api)
    for name, ask in ways.items():
        yield name, ask()


def difference(one: Said, other: Said) -> float:
    """The largest difference of a score that both tell."""
    both = one.scores.keys() & other.scores.keys()
    return max((abs(one.scores[name] - other.scores[name]) for name in both), default=float("inf"))


def compare(one: Answers, other: Answers) -> tuple[int, int, float]:
    """Images that both read, labels that differ, the largest difference of a score."""
    both = one.keys() & other.keys()
    labels = sum(one[name].label != other[name].label for name in both)
    return len(both), labels, max((difference(one[name], other[name]) for name in both), default=0.0)


def kind_of(name: str) -> str:
    """The kind of a made image, from its file's name."""
    return Path(name).stem.partition("_")[2]


def kinds_beyond(one: Answers, other: Answers) -> Counter[str]:
    """How many images of each kind differ by more than the tolerance."""
    both = one.keys() & other.keys()
    beyond = [name for name in both if difference(one[name], other[name]) > TOLERANCE]
    return Counter(kind_of(name) for name in beyond)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--photos", type=Path, help="folder of photos of which parts are taken")
    parser.add_argument("--runtime", type=Path, help="package onnxruntime-web, to ask the browser too")
    parser.add_argument("--keep", type=Path, help="folder for the images; by default they are removed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch) / "images"
        if not folder.exists():
            with atomic_folder(folder) as partial:
                photos = image_files([arguments.photos]) if arguments.photos else []
                make_images(partial, arguments.images, photos)
        files = image_files([folder])
        found: dict[str, Answers] = {}
        for name, answers in all_ways(opened_run(arguments.run), files, Path(scratch), arguments.runtime):
            for other, before in found.items():
                both, labels, largest = compare(before, answers)
                print(f"| {other}, {name} | {both:,} | {labels} | {largest:.2g} |", flush=True)
            found[name] = answers
    for name, answers in found.items():
        lost = Counter(kind_of(file.name) for file in files if file.name not in answers)
        print(f"{name}: not read: {dict(lost)}; beyond {TOLERANCE}: {dict(kinds_beyond(found['Python'], answers))}")


if __name__ == "__main__":
    main()
