"""Learning curves are drawn in place after each epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.api.live import LiveCurves, notebook_callbacks


class Shown:
    def __init__(self, first: Any) -> None:
        self.pages = [first._repr_html_()]

    def update(self, page: Any) -> None:
        self.pages.append(page._repr_html_())


def test_curves_are_drawn_once_and_then_updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    shown: list[Shown] = []

    def display(page: Any, *, display_id: bool) -> Shown:
        assert display_id
        shown.append(Shown(page))
        return shown[-1]

    settings: dict[str, Any] = {"epochs": 3, "model": "plain", "filters": (4,), "subset": "train=100", "quiet": True}
    opsin.train("digits", callbacks=[LiveCurves(display)], out=tmp_path, report=False, preflight=False, **settings)
    assert len(shown) == 1
    assert len(shown[0].pages) == 3
    assert "epoch 3 of 3" in shown[0].pages[-1]
    assert shown[0].pages[-1].count("<svg") == 2


def test_outside_of_a_notebook_nothing_is_drawn() -> None:
    assert notebook_callbacks() == []
