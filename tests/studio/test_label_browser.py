"""Photos are labelled, boxed and painted in a browser: by keyboard alone, and by mouse."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.io.images import encode_png, read_mask

pytestmark = pytest.mark.browser
NUM = 4


@pytest.fixture
def opened(tmp_path: Path) -> list[Path]:
    """A folder of photos without labels, 200 by 100 pixels."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "snaps"
    folder.mkdir()
    for i in range(NUM):
        (folder / f"{i}.png").write_bytes(encode_png(generator.integers(0, 256, (3, 100, 200), dtype=np.uint8)))
    return [folder]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Where it is written."""
    return tmp_path / "snaps-labelled"


def _begin(page: Any, address: str, kind: str) -> None:
    """By keyboard: the classes, and what is to be said."""
    page.goto(f"{address}/data/given-snaps/label")
    page.focus("#l-classes")
    page.keyboard.type("cat\ndog")
    page.focus(f"[value={kind}]")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    _ready(page, 0)


def _ready(page: Any, number: int) -> None:
    page.wait_for_selector(f"[data-ready='{number}']")


def _labels(path: Path) -> list[tuple[str, str]]:
    with path.open() as file:
        return [(row["path"], row["label"]) for row in csv.DictReader(file)]


def test_photos_are_labelled_by_keyboard_alone(page: Any, address: str, expect: Any, written: Path) -> None:
    _begin(page, address, "labels")
    for number, key in enumerate("121"):
        page.keyboard.press(key)
        _ready(page, number + 1)
    page.keyboard.press("u")
    _ready(page, 2)
    expect("[data-what]").to_have_text("Photo 3 of 4, 2.png: no label")
    page.keyboard.press("ArrowLeft")
    _ready(page, 1)
    expect("[data-what]").to_have_text("Photo 2 of 4, 1.png: dog")
    page.keyboard.press("Delete")
    expect("[data-done]").to_have_text("1 of 4 photos")
    assert _labels(written / "snaps-labels.csv") == [("../snaps/0.png", "cat")]
    page.focus("#l-new")
    page.keyboard.type("bird")
    page.keyboard.press("Enter")
    expect("[data-class='2']").to_be_visible()
    page.reload()
    _ready(page, 1)  # where one stopped
    page.keyboard.press("3")
    expect("[data-done]").to_have_text("2 of 4 photos")
    assert _labels(written / "snaps-labels.csv")[1] == ("../snaps/1.png", "bird")


def _boxes(path: Path) -> list[tuple[int, list[int]]]:
    return [(entry["category_id"], entry["bbox"]) for entry in json.loads(path.read_text())["annotations"]]


def test_boxes_are_drawn_moved_and_deleted_by_keyboard_alone(
    page: Any, address: str, expect: Any, written: Path
) -> None:
    _begin(page, address, "boxes")
    page.keyboard.press("n")
    expect(".box").to_have_attribute("aria-label", "cat: 100 by 50 px, at 50, 25")
    page.keyboard.press("2")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowLeft", "Alt+ArrowDown"):
        page.keyboard.press(key)
    expect(".box").to_have_attribute("aria-label", "dog: 98 by 50 px, at 54, 24")
    page.keyboard.press("n")
    page.keyboard.press("Delete")
    page.keyboard.press("PageDown")
    _ready(page, 1)
    expect("[data-done]").to_have_text("1 of 4 photos")
    assert _boxes(written / "snaps-boxes.json") == [(2, [54, 24, 98, 50])]
    page.keyboard.press("Control+z")  # the deletion
    expect(".box").to_have_count(2)
    _ready(page, 0)
    for left in (1, 0):
        page.focus(".box:last-of-type")
        page.keyboard.press("Delete")
        expect(".box").to_have_count(left)
    expect("[data-done]").to_have_text("0 of 4 photos")
    assert not (written / "snaps-boxes.json").exists()


def test_boxes_are_drawn_moved_and_sized_by_mouse(page: Any, address: str, expect: Any, written: Path) -> None:
    _begin(page, address, "boxes")
    frame = page.locator("[data-sheet]").bounding_box()

    def drag(*places: tuple[int, int]) -> None:
        for i, (x, y) in enumerate(places):
            page.mouse.move(frame["x"] + frame["width"] * x / 200, frame["y"] + frame["height"] * y / 100)
            if i == 0:
                page.mouse.down()
        page.mouse.up()

    drag((20, 10), (60, 30), (80, 50))
    expect(".box").to_have_attribute("aria-label", "cat: 60 by 40 px, at 20, 10")
    drag((50, 30), (60, 40), (70, 40))
    expect(".box").to_have_attribute("aria-label", "cat: 60 by 40 px, at 40, 20")
    drag((100, 60), (110, 70), (220, 90))
    expect(".box").to_have_attribute("aria-label", "cat: 160 by 70 px, at 40, 20")
    page.keyboard.press("PageDown")
    _ready(page, 1)
    assert _boxes(written / "snaps-boxes.json") == [(1, [40, 20, 160, 70])]


def test_masks_are_painted_by_mouse_and_by_keyboard(page: Any, address: str, expect: Any, written: Path) -> None:
    _begin(page, address, "masks")
    frame = page.locator("[data-sheet]").bounding_box()
    page.mouse.move(frame["x"] + frame["width"] / 4, frame["y"] + frame["height"] / 2)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 3 / 4, frame["y"] + frame["height"] / 2, steps=4)
    page.mouse.up()
    expect("[data-done]").to_have_text("1 of 4 photos")
    page.keyboard.press("2")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.click("[data-fill]")
    expect("[data-what]").to_have_text("Photo 1 of 4, 0.png: 100 % painted")
    page.keyboard.press("e")
    page.focus("[data-easel]")
    page.keyboard.press("Space")
    page.keyboard.press("PageDown")
    _ready(page, 1)
    mask = read_mask(next((written / "snaps-masks" / "masks").iterdir())).indices
    assert mask.shape == (100, 200)
    assert set(np.unique(mask).tolist()) == {0, 1, 255}
    assert mask[50, 100] == 0
    assert mask[5, 5] == 1
    page.keyboard.press("u")
    _ready(page, 0)
    expect("[data-what]").to_have_text("Photo 1 of 4, 0.png: 100 % painted")


@pytest.fixture
def large(tmp_path: Path) -> None:
    """The first photo is so large that its mask does not fit into what a browser sends after it has left a page."""
    (tmp_path / "snaps" / "0.png").write_bytes(encode_png(np.zeros((3, 600, 1000), np.uint8)))


def _stroke(page: Any, *, end: bool) -> None:
    frame = page.locator("[data-sheet]").bounding_box()
    page.mouse.move(frame["x"] + frame["width"] / 4, frame["y"] + frame["height"] / 2)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 3 / 4, frame["y"] + frame["height"] / 2, steps=4)
    if end:
        page.mouse.up()


def _painted(written: Path) -> np.ndarray:
    return np.asarray(read_mask(next((written / "snaps-masks" / "masks").iterdir())).indices != 255)


def test_whoever_leaves_while_a_mask_is_being_sent_is_warned(
    page: Any, address: str, expect: Any, written: Path, large: None
) -> None:
    _begin(page, address, "masks")
    held: list[Any] = []
    page.route("**/mask?*", lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    with page.expect_request(lambda request: request.method == "POST"):
        _stroke(page, end=True)
    page.click("a.brand", no_wait_after=True)
    expect("[data-what]").to_contain_text("Photo 1 of 4")
    assert asked == ["beforeunload"]
    assert not (written / "snaps-masks").exists()
    while held:
        held.pop().continue_()
        page.wait_for_timeout(100)
    expect("[data-done]").to_have_text("1 of 4 photos")
    page.click("a.brand")
    page.wait_for_selector("#runs")
    assert asked == ["beforeunload"]
    assert _painted(written)[300, 250:750].all()


def test_a_long_stroke_is_written_while_it_is_drawn(
    page: Any, address: str, expect: Any, written: Path, large: None
) -> None:
    _begin(page, address, "masks")
    _stroke(page, end=False)
    expect("[data-done]").to_have_text("1 of 4 photos")
    assert _painted(written)[300, 300:700].all()
    page.keyboard.press("PageDown")  # with the button still down: the stroke ends with its photo
    _ready(page, 1)
    page.mouse.up()
    expect("[data-what]").to_have_text("Photo 2 of 4, 1.png: 0 % painted")


def test_a_mask_that_could_not_be_sent_is_sent_again(
    page: Any, address: str, expect: Any, written: Path, large: None
) -> None:
    page.add_init_script("""
        const fetched = window.fetch;
        let failures = 1;
        window.fetch = (where, how = {}) => (how.method === "POST" && failures-- > 0
          ? Promise.reject(new TypeError("Failed to fetch")) : fetched(where, how));
    """)
    _begin(page, address, "masks")
    _stroke(page, end=True)
    expect("[data-trouble]").to_contain_text("not saved yet")
    expect("[data-done]").to_have_text("1 of 4 photos")
    expect("[data-trouble]").to_have_text("")
    assert _painted(written)[300, 300:700].all()
