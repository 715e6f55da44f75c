"""The demo: three runs and one page over them, on a fraction of its data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import opsin
import opsin.cli.demo as demo
from opsin.cli import main
from opsin.report.overview import write_overview

FEW = {
    "digits": {"epochs": 1, "subset": "train=128,val=20,test=20"},
    "digit_scenes": {"scene_digits": "digits", "scenes": 40, "epochs": 1, "batch_size": 20},
    "digit_masks": {"classes": "foreground", "scenes": 32, "epochs": 1},
}


def test_the_demo_trains_all_three_tasks_and_writes_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SETTINGS", FEW)
    assert main(["demo", "--out", str(tmp_path), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(run).name for run in told["runs"]] == list(FEW)
    page = Path(told["report"]).read_text(encoding="utf-8")
    for question in ("What is it?", "What is it, and where?", "Which pixels?"):
        assert question in page
    for data in FEW:
        assert f'href="{data}/report.html"' in page
        assert (Path(told["report"]).parent / data / "report.html").is_file()
    assert "<script" not in page
    assert 'src="http' not in page


def test_the_page_says_that_the_marked_score_on_val_is_the_best_of_many(tmp_path: Path) -> None:
    few = {"subset": "train=200,val=60,test=60", "filters": [8], "threads": 1, "preflight": False, "quiet": True}
    run = opsin.train("digits", epochs=3, open_test=True, out=tmp_path, name="digits", report=False, **few)
    page = write_overview([run], tmp_path / "page.html", title="A demo", words="").read_text(encoding="utf-8")
    selection = run.scores["val"].selection
    assert selection is not None
    assert (
        f"The score on val that is marked is the best of 3 epochs, chosen by this score (epoch {selection.best_epoch}"
        in page
    )
