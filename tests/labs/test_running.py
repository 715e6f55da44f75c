"""Running labs: budgets, all labs with their index, and a lab that was killed."""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin import labs
from opsin.cli import main
from opsin.errors import CheckFailedError, RunError
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.pace import FOR_RUNS, Pace
from opsin.labs.running import run_book, run_labs
from opsin.progress import Reporter

TINY = {"model": "dense", "subset": "train=120", "seed": 0}


def tiny(book: Book, name: str, epochs: int) -> opsin.Run:
    return book.train("digits", name=name, epochs=epochs, **TINY)


def trains(name: str, epochs: int) -> Any:
    """A question that trains one network and tells its accuracy."""

    def measure(book: Book) -> Found:
        run = tiny(book, name, epochs)
        table = book.table(name, "Accuracy", ("val",), [(run.scores["val"]["accuracy"],)])
        return Found(answer=f"{table.shown[0][0]}.", evidence=(table, run))

    return question(f"How good is {name}?")(measure)


def made(lab: str, **epochs: int) -> Lab:
    """A lab of a question for each network, which is trained for so many epochs."""
    return Lab(
        name=lab,
        title=lab.title(),
        words="For tests.",
        questions=tuple(trains(name, count) for name, count in epochs.items()),
        networks=lambda book: [tiny(book, name, count) for name, count in epochs.items()],
    )


def test_runs_share_the_minutes_that_are_left_and_finished_ones_need_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "scores.json").write_text("{}")
    pace = Pace(num_questions=2, num_runs=3, folder=tmp_path, minutes=10.0)
    assert pace.minutes_of_run() == pytest.approx(FOR_RUNS * 10 / 2, abs=0.01)
    pace.run_ended("b")
    assert pace.minutes_of_run() == pytest.approx(FOR_RUNS * 10, abs=0.01)
    assert Pace(num_questions=2, num_runs=3, folder=tmp_path).minutes_of_run() is None


def test_the_bar_counts_finished_runs_as_done_and_estimates_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "scores.json").write_text("{}")
    pace = Pace(num_questions=2, num_runs=2, folder=tmp_path)
    with Reporter(quiet=True).bar("lab", pace.units, earlier=pace.units_earlier) as pace.bar:
        assert pace.bar.seconds_left() is None
        pace.run_ended("b")
        assert pace.bar.done == 40
        assert pace.bar.seconds_left() is not None
        pace.question_answered()
        pace.question_answered()
    assert pace.bar.share() == 1.0


def test_a_budget_ends_a_run_and_is_no_part_of_what_was_asked(tmp_path: Path) -> None:
    lab = made("brief", a=10_000)
    found = run_book(Book(lab, folder=tmp_path), minutes=0.05)
    assert opsin.Run(found.runs[0]).summary.stopped == "minutes"
    asked = json.loads((tmp_path / "runs" / "a.asked.json").read_text(encoding="utf-8"))
    assert "minutes" not in asked
    again = run_book(Book(lab, folder=tmp_path))
    assert opsin.Run(again.runs[0]).summary.epochs == opsin.Run(found.runs[0]).summary.epochs


def test_all_labs_leave_a_report_each_and_an_index_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    def fails(book: Book) -> Found:
        raise CheckFailedError("<b>nothing</b> was there")

    bad = Lab(name="bad", title="Bad", words="For tests.", questions=(question("What?")(fails),))
    made_labs = [bad, made("good", a=1)]
    found = run_labs([Book(lab, folder=tmp_path / lab.name) for lab in made_labs], out=tmp_path, minutes=1.0)
    assert [lab.lab for lab in found.labs] == ["good"]
    assert list(found.failures) == ["bad"]
    page = found.index.read_text(encoding="utf-8")
    assert 'href="good/report.html"' in page
    assert "&lt;b&gt;nothing" in page
    assert "default-src 'none'" in html.unescape(page)
    assert (tmp_path / "good/report.html").is_file()


def test_the_command_wants_one_lab_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "run"]) == 2
    assert main(["lab", "run", "convolution", "--all"]) == 2
    assert "--all" in capsys.readouterr().err


def test_minutes_that_were_not_measured_are_said_to_be_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labs, "get", lambda name: made("unmeasured", a=1))
    assert main(["lab", "show", "convolution"]) == 0
    assert "not measured" in capsys.readouterr().out


def test_what_is_measured_once_is_read_again_and_not_measured_where_nothing_may_be(tmp_path: Path) -> None:
    calls: list[int] = []
    lab = made("once", a=1)
    for _ in range(2):
        assert Book(lab, folder=tmp_path).once("Half the side", lambda: (calls.append(1), 2.5)) == [None, 2.5]
    assert len(calls) == 1
    with pytest.raises(RunError, match="not measured"):
        Book(lab, folder=tmp_path, trains=False).once("other", lambda: 1)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_running import Book, Path, made, run_book
run_book(Book(made("killed", first=1, second=4000), folder=Path({folder!r})))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_lab_that_was_killed_goes_on_and_trains_no_finished_run_again(tmp_path: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        second = tmp_path / "runs/second"
        while process.poll() is None and not list(second.glob("checkpoints/*/state.json")):
            log = second / "log.jsonl"
            if log.is_file() and log.read_text(encoding="utf-8").count('"epoch"') >= 3:
                break
            time.sleep(0.05)
        assert process.poll() is None
        process.kill()
    first = tmp_path / "runs/first/scores.json"
    stamp = first.stat().st_mtime_ns
    assert not (second / "scores.json").is_file()
    lab = made("killed", first=1, second=4000)
    found = run_book(Book(lab, folder=tmp_path), minutes=0.05)
    assert first.stat().st_mtime_ns == stamp
    assert (second / "scores.json").is_file()
    assert [answer.evidence[1] for answer in found.answers] == ["run first", "run second"]
