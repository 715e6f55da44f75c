"""An installed package brings a network and a task by entry points of its metadata."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import opsin
from opsin import plugins
from opsin.report import render
from opsin.tasks import cards

NETWORK = """
from torch import nn


def flat(*, channels, height, width, num_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_outputs))
"""
ENTRY_POINTS = """[opsin.models]
flat_one = brought_parts:flat

[opsin.tasks]
sort = brought_sort
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path as an installer leaves it; its task is a copy of Opsin's own under another name."""
    site = tmp_path / "site"
    (site / "brought_parts-1.0.dist-info").mkdir(parents=True)
    (site / "brought_parts-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "brought_parts-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: brought-parts\nVersion: 1.0\n"
    )
    (site / "brought_parts.py").write_text(NETWORK)
    shutil.copytree(Path(cards.__file__).parent / "classify", site / "brought_sort")
    card = site / "brought_sort" / "card.py"
    card.write_text(card.read_text().replace('name="classify"', 'name="sort"'))
    monkeypatch.syspath_prepend(site)
    _forget()
    yield site
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    for cached in (plugins._points, cards.task_names, cards.card_of, render.environment):
        getattr(cached, "cache_clear", lambda: None)()


def test_an_installed_network_is_trained_by_its_name(installed: Path, tmp_path: Path) -> None:
    run = opsin.train("digits", model="flat_one", epochs=1, subset="train=64", name="own", out=tmp_path)
    assert "flat_one" in opsin.models.names()
    assert run.summary.parameters >= 64 * 10


def test_an_installed_task_is_a_package_with_card_task_and_templates(installed: Path) -> None:
    assert "sort" in cards.task_names()
    assert cards.package_of("sort") == "brought_sort"
    assert cards.card_of("sort").name == "sort"
    assert render.environment().loader is not None
