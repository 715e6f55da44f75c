"""As a person does it who only clicks: a folder of pictures, a trained network, an answer; keyboard and camera too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.io.images import encode_png

AT_LEAST_12 = re.compile(r"(1[2-9]|[2-9]\d|\d{3,})")
COLOURS = {"blue": (30, 60, 220), "green": (30, 200, 60), "red": (220, 40, 30)}

pytestmark = pytest.mark.browser


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes of noisy colours, 20 pictures each."""
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for i in range(20):
            noise = generator.integers(-30, 30, (3, 32, 32))
            pixels = np.clip(np.array(colour)[:, None, None] + noise, 0, 255).astype(np.uint8)
            path = tmp_path / "colours" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(pixels))
    return tmp_path / "colours"


def test_from_a_folder_of_pictures_to_a_network_that_answers(page: Any, address: str, pictures: Path) -> None:
    page.goto(address)
    page.set_input_files("#upload-files", pictures)
    page.click("text=Copy the pictures")
    page.wait_for_url("**/data/own-colours")
    page.wait_for_selector(".tiles img")
    page.click("text=Train a network on it")
    page.wait_for_selector("#plan dl")
    page.fill("#f-epochs", "12")
    page.click("text=Start training")
    page.wait_for_url("**/runs/*")
    page.click('a:has-text("Try it")')
    page.set_input_files("#try-file", pictures / "green" / "3.png")
    page.wait_for_selector(".meters li")
    assert page.inner_text("[data-verdict]") == "green"
    page.click("text=Where does it look?")
    page.wait_for_selector("[data-why] img[src^=data]")
    page.click("[data-camera-button]")
    page.wait_for_selector("video:not([hidden])")
    page.wait_for_selector(".meters li")


def test_pages_are_used_by_keyboard_alone(page: Any, address: str, expect: Any) -> None:
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto(f"{address}/kernels")
    page.wait_for_selector("#out img")
    before = page.get_attribute("#out figure:nth-child(2) img", "src")
    page.focus("[name=k4]")
    page.keyboard.type("5")
    expect("#out figure:nth-child(2) img").not_to_have_attribute("src", before)
    page.goto(f"{address}/data/built-in-digits")
    page.wait_for_selector(".tiles a")
    page.focus(".tiles a")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.evaluate("document.activeElement.matches('.tiles a')")


@pytest.mark.parametrize("way", ["keyboard", "mouse"])
def test_three_things_are_collected_by_camera(page: Any, address: str, expect: Any, way: str) -> None:
    page.goto(f"{address}/teach")
    page.click("[data-camera-button]")
    page.wait_for_selector("[data-record='0']:not([disabled])")
    for i in range(3):
        if way == "keyboard":
            page.focus(f"[data-record='{i}']")
            page.keyboard.down(" ")
        else:
            page.hover(f"[data-record='{i}']")
            page.mouse.down()
        expect(f"[data-count='{i}']").to_have_text(AT_LEAST_12)
        page.keyboard.up(" ") if way == "keyboard" else page.mouse.up()
    page.wait_for_selector("[data-learn]:not([disabled])")
