"""The studio with a large shelf: how long its pages take with 10,000 images and 200 runs.

python benchmarks/studio_size.py [--images 10000] [--runs 200] [--folder FOLDER]

Makes a folder data set and copies of one quickly trained run of `digits`, opens each page over HTTP and in Chromium,
and prints, in milliseconds, the first answer, p50 and p95 of later ones, and the studio's own processor time for each
of these, which other work on the machine hardly changes; then in Chromium the time until the page is whole: all that it
loads later is there, every picture in the window decoded.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opsin.api.training import train
from opsin.io.images import encode_jpeg
from opsin.studio.annotations import Annotations
from opsin.studio.box_file import Box
from opsin.studio.labelled import place_of

NUM_CLASSES = 10
SIDE_PX = 64
REPEATS, REPEATS_BROWSER = 20, 4
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MS = 120_000
WHOLE = """() => {
  const waiting = [...document.querySelectorAll('.spinner')].some(e => !e.closest('div.htmx-indicator'));
  const inside = [...document.images].filter(i => i.src && i.getBoundingClientRect().top < innerHeight);
  return !waiting && inside.every(i => i.complete);
}"""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds that a page took each time; `processor_s`: of the studio, for each time but the first."""

    name: str
    seconds: list[float]
    processor_s: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page: its address, what is there once it is whole, and what it asks for in parts."""

    name: str
    path: str
    whole: str
    part: str = ""


def pages(first_run: str, second_run: str) -> list[Page]:
    """What is opened, in the order in which a person would."""
    data = "/data/given-photos"
    return [
        Page(name="home", path="/", whole="#runs table"),
        Page(name="home, last page of runs", path="/?page=10", whole="#runs table"),
        Page(name="data set (overview)", path=data, whole="#grid img", part=f"{data}/overview"),
        Page(name="data set (grid)", path=data, whole="#grid img", part=f"{data}/grid?split=train&page=100"),
        Page(name="thumbnail", path="", whole="", part=f"{data}/image/train/77"),
        Page(name="sheet of augmented images", path="", whole="", part=f"{data}/augmented.jpg?rotate=10"),
        Page(name="train form", path="/train?data=given-photos", whole="#plan dl", part="/train?data=given-photos"),
        Page(name="a run", path=f"/runs/{first_run}", whole=".hero"),
        Page(name="its errors", path=f"/runs/{first_run}/errors?show=all", whole=".verdict-of"),
        Page(name="try it", path=f"/runs/{first_run}/try", whole="[data-try]"),
        Page(name="list to compare", path="/compare", whole="form"),
        Page(name="two compared", path=f"/compare?run={first_run}&run={second_run}", whole=".verdict"),
        Page(name="label: classes", path=f"{data}/label?kind=labels", whole="[data-ready]"),
        Page(name="label: boxes", path=f"{data}/label?kind=boxes", whole="[data-ready]"),
        Page(name="label: masks", path=f"{data}/label?kind=masks", whole="[data-ready]"),
    ]


def make_photos(folder: Path, number: int) -> None:
    """Photos in class folders: coloured noise of low frequency, different for each."""
    generator = np.random.default_rng(0)
    for i in range(number):
        path = folder / f"class {i % NUM_CLASSES}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (3, 8, 8), dtype=np.uint8)
        path.write_bytes(encode_jpeg(coarse.repeat(SIDE_PX // 8, 1).repeat(SIDE_PX // 8, 2), quality=85))


def make_annotations(photos: Path) -> None:
    """Labels from the folders, boxes and masks in a hundredth of the photos."""
    notes = Annotations(place_of(photos))
    notes.refresh()
    notes.begin([], from_folders=True)
    for name in notes.names[: len(notes.names) // 100]:
        notes.set_boxes(name, [Box(label=0, x=2, y=2, width=20, height=20)])
        notes.set_mask(name, bytes(SIDE_PX * SIDE_PX))


def make_runs(folder: Path, number: int) -> list[str]:
    """Copies of one run; returns their names."""
    run = train("digits", name="run-000", out=folder, epochs=3, filters=[8], threads=1, quiet=True, preflight=False)
    for i in range(1, number):
        shutil.copytree(run.path, folder / f"run-{i:03d}")
    return [f"run-{i:03d}" for i in range(number)]


@contextmanager
def studio(folder: Path) -> Iterator[tuple[str, int]]:
    """The address of a studio over `folder`, and the number of its process."""
    command = [sys.executable, "-m", "opsin", "studio", "photos", "--port", "0", "--no-browser", "--json"]
    environment = {**os.environ, "OPSIN_CACHE": str(folder / "cache")}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield next(line for line in process.stdout if '"address"' in line).split('"')[3], process.pid
        finally:
            process.terminate()


def seconds_of(address: str) -> float:
    """Time to the last byte of an answer."""
    began = time.perf_counter()
    with urllib.request.urlopen(address, timeout=WAIT_MS / 1000) as answer:
        answer.read()
    return time.perf_counter() - began


def processor_s(process: int) -> float:
    """Processor time of a process until now (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def over_http(address: str, process: int, opened: list[Page]) -> Iterator[Times]:
    """For each page its answers' times."""
    for page in opened:
        where = address + (page.part or page.path)
        first, before = seconds_of(where), processor_s(process)
        later = [seconds_of(where) for _ in range(REPEATS)]
        yield Times(name=page.name, seconds=[first, *later], processor_s=(processor_s(process) - before) / REPEATS)


def in_chromium(address: str, opened: list[Page]) -> Iterator[Times]:
    """For each page the times until it is whole."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(WAIT_MS)
        page.goto(address)  # the browser's own start is not the studio's
        for one in (one for one in opened if one.path):
            yield Times(name=one.name, seconds=[_until_whole(page, address, one) for _ in range(1 + REPEATS_BROWSER)])
        browser.close()


def _until_whole(page: Any, address: str, one: Page) -> float:
    page.goto("about:blank")
    began = time.perf_counter()
    page.goto(address + one.path, wait_until="commit")
    page.wait_for_selector(one.whole)
    while not page.evaluate(WHOLE):
        if time.perf_counter() - began > WAIT_MS / 1000:
            raise TimeoutError(f"{one.name} is not whole after {WAIT_MS // 1000} s")
        time.sleep(0.01)
    return time.perf_counter() - began


def print_table(title: str, found: Iterator[Times]) -> None:
    """A row for each page, as soon as it is there."""
    print(f"\n| {title} | first, ms | then p50 | p95 | processor |\n|---|---|---|---|---|")
    for page in found:
        p50, p95 = np.percentile(page.seconds[1:], [50, 95])
        shown = [f"{1000 * value:,.0f}" for value in (page.seconds[0], p50, p95, page.processor_s)]
        print(f"| {page.name} | {' | '.join(shown)} |".replace("nan", ""), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="kept and used again; a temporary one otherwise")
    parser.add_argument("--no-browser", action="store_true", help="over HTTP alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        if not (folder / "photos").is_dir():
            make_photos(folder / "photos", options.images)
            make_annotations(folder / "photos")
            make_runs(folder / "runs", options.runs)
        opened = pages("run-000", "run-001")
        with studio(folder) as (address, process):
            print_table("over HTTP", over_http(address, process, opened))
            if CHROMIUM and not options.no_browser:
                print_table("in Chromium, until the page is whole", in_chromium(address, opened))


if __name__ == "__main__":
    main()
