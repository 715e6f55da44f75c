"""Tables of layers in a terminal of 80 columns: names and numbers stay whole."""

from __future__ import annotations

import pytest

from opsin.cli import main
from opsin.cli.explain import show

WIDTH = 80


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def test_the_layers_of_a_plan_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    filters = ["--filters", "100,200,400", "--downsample", "stride", "--headless"]
    assert main(["plan", "plain", *filters, "--input", "3x200x300", "--batch", "50", "--no-time"]) == 0
    words = capsys.readouterr().out.split()
    assert {"parameters", "blocks.0.conv", "BatchNorm2d", "100x100x150", "675,000,000", "380000"} <= set(words)


def test_the_layers_of_an_explanation_can_be_told_apart_and_copied(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"stages.0.{part}" for part in ("conv1", "conv2", "norm1", "norm2")]
    row = {"kind": "BatchNorm2d", "output_shape": [32, 112, 112], "theoretical": [211, 211], "stride": [2, 2]}
    show([{"layer": name, "effective_px": 104.5, **row} for name in names])
    printed = capsys.readouterr().out
    assert set(names) <= set(printed.split())
    assert max(map(len, printed.splitlines())) <= WIDTH


def test_tables_in_a_pipe_are_not_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS")
    assert main(["models"]) == 0
    assert "…" not in capsys.readouterr().out
