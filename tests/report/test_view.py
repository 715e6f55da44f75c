"""What is read of a run, how a notebook shows it, and the verb."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opsin.cli import main
from opsin.report.notebook import run_html
from opsin.report.sections import headline, mean_of, openings, peak_memory
from opsin.report.view import to_score, view_of
from opsin.runs import Run, RunWriter


def test_an_epoch_that_was_trained_again_counts_once_as_it_went_the_last_time(interrupted_run: Path) -> None:
    RunWriter(Run(interrupted_run)).event(
        "epoch", epoch=6, step=1, seconds=9.0, lr=0.1, train={}, val={"accuracy": 0.123}
    )
    view = view_of(Run(interrupted_run))
    assert [epoch.epoch for epoch in view.epochs] == [1, 2, 3, 4, 5, 6]
    assert view.epochs[-1].val == {"accuracy": 0.123}


def test_events_know_the_epoch_they_came_after(digits_run: Path) -> None:
    places = {event.event: event.after_epoch for event in view_of(Run(digits_run)).events}
    assert places == {"start": 0, "interrupt": 25, "resume": 25, "test_opened": 30, "finish": 30}


def test_test_comes_before_val(digits_run: Path) -> None:
    view = view_of(Run(digits_run))
    assert [result.name for result in view.results] == ["test", "val"]
    assert openings(view) == 1


def test_costs_are_those_of_the_log(digits_run: Path) -> None:
    view = view_of(Run(digits_run))
    assert mean_of(view, "cpu_percent") == 93
    assert mean_of(view, "gpu_percent") is None
    assert peak_memory(view) == 410 * 2**20 + 30 * 2**18


def test_unscored_run_opens_with_the_best_val_score_of_its_log(interrupted_run: Path) -> None:
    view = view_of(Run(interrupted_run))
    best = max(epoch.val["accuracy"] for epoch in view.epochs)
    assert headline(view)["value"] == f"{100 * best:.1f} %"
    assert headline(view)["interval"] == ""


@pytest.mark.parametrize("value", [None, "x", True, float("inf"), {}, {"value": None}])
def test_what_is_no_number_is_an_undefined_score(value: object) -> None:
    assert str(to_score(value)) == "n/a"


def test_notebook_shows_headline_and_curves(digits_run: Path) -> None:
    html = run_html(Run(digits_run))
    assert html.count("<svg") == 3
    assert "98." in html
    assert "<script" not in html
    assert "http" not in html


def test_notebook_shows_a_run_without_scores(interrupted_run: Path) -> None:
    assert "test is sealed" in run_html(Run(interrupted_run))


def test_verb_prints_one_json_document(digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "page.html"
    assert main(["report", str(digits_run), "--out", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": str(digits_run), "file": str(file)}
    assert file.stat().st_size > 10_000


def test_verb_prints_the_file(digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(digits_run, tmp_path / "mine")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"


def test_verb_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "this folder is not a run" in capsys.readouterr().err


def test_report_needs_no_torch() -> None:
    code = "import sys, opsin.report, opsin.report.notebook; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
