"""axe-core finds no serious fault on any page: light and dark, wide and as narrow as a phone.

axe-core is no part of Opsin: `npm install axe-core` in some folder, and
OPSIN_AXE=FOLDER/node_modules/axe-core/axe.min.js.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

AXE = Path(os.environ.get("OPSIN_AXE", "axe.min.js"))
PAGES = (
    ("/", "#runs table"),
    ("/data/given-photos", "#grid img"),
    ("/data/given-snaps/label?kind=labels", "[data-ready]"),
    ("/data/given-snaps/label?kind=boxes", ".box"),
    ("/data/given-snaps/label?kind=masks", "[data-ready]"),
    ("/data/given-photos/label", "#l-classes"),
    ("/train?data=built-in-digits", "#plan dl"),
    ("/teach", "[data-record]"),
    ("/runs/digits", ".hero"),
    ("/runs/digits/errors?show=all", ".verdict-of"),
    ("/runs/scenes/errors", "#pictures"),
    ("/runs/digits/try", "[data-try]"),
    ("/runs/digits/report", "h1"),
    ("/compare", "form"),
    ("/kernels", "#out img"),
    ("/planner", "#table table"),
    ("/labs", "#labs"),
)
"""Addresses, and what is there when the page is whole."""
VIEWS = ("light, wide", "dark, wide", "light, narrow", "dark, narrow")
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
GRAVE = ("serious", "critical")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not here: see the docstring of this file"),
]


@pytest.fixture
def opened(place: Path, tmp_path: Path) -> list[Path]:
    """Photos with classes, and some that are labelled in the studio; the runs are put where the studio looks."""
    from opsin.studio.annotations import Annotations
    from opsin.studio.box_file import Box
    from opsin.studio.labelled import place_of

    (tmp_path / "runs").symlink_to(place / "runs")
    (tmp_path / "snaps").mkdir()
    for path in sorted((place / "photos" / "plain").iterdir()):
        (tmp_path / "snaps" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "photos").symlink_to(place / "photos")
    notes = Annotations(place_of(tmp_path / "snaps"))
    notes.refresh()
    notes.begin(["cat", "dog"], from_folders=False)
    notes.set_boxes(notes.names[-1], [Box(label=0, x=2, y=2, width=9, height=9)])
    return [tmp_path / "photos", tmp_path / "snaps"]


@pytest.fixture
def faults(page: Any) -> Iterator[list[str]]:
    """What axe-core finds is collected, so that one run tells all."""
    found: list[str] = []
    yield found
    page.goto("about:blank")


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_no_serious_fault_and_no_page_is_wider_than_its_window(
    page: Any, address: str, faults: list[str], view: str
) -> None:
    scheme, size = view.split(", ")
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    for path, whole in PAGES:
        more = "&at=11" if "boxes" in path else ""
        page.goto(f"{address}{path}{more}")
        page.wait_for_selector(whole)
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        faults += [
            f"{path}: {fault['id']} at {node['target']}: {node['failureSummary']}"
            for fault in found["violations"]
            if fault["impact"] in GRAVE
            for node in fault["nodes"][:3]
        ]
        wide = page.evaluate("document.documentElement.scrollWidth")
        faults += [f"{path}: {wide} px wide"] if wide > width else []
    assert not faults, "\n".join(faults)
