"""Running labs: budgets, all labs with their index, and a lab that was killed."""

from __future__ import annotations

import html
import json
import os
import re
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
from opsin.labs.measure import agreement
from opsin.labs.pace import FOR_RUNS, Pace
from opsin.labs.plans import forecast
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


def test_a_report_lists_the_runs_that_its_budget_ended_and_compares_none_of_them_with_what_was_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compares(book: Book) -> Found:
        run = tiny(book, "a", 10_000)
        table = book.table("a", "Accuracy", ("val",), [(run.scores["val"]["accuracy"],)])
        verdict = agreement(book, [(run.scores["val"]["accuracy"], 0.0)])
        return Found(answer="It is low.", evidence=(table, run), ours=table.shown[0][0], **verdict)

    lab = Lab(
        name="brief",
        title="Brief",
        words="For tests.",
        questions=(question("How good?", published="0 %")(compares),),
        networks=lambda book: tiny(book, "a", 10_000),
    )
    monkeypatch.setattr(labs, "get", lambda name: lab)
    assert main(["lab", "run", "brief", "--full", "--minutes", "0.05", "--out", str(tmp_path), "--quiet"]) == 0
    assert "ended 1 of 1 runs" in capsys.readouterr().out
    document = json.loads((tmp_path / "brief-full/lab.json").read_text(encoding="utf-8"))
    assert 0 < document["cut"]["a"] < 1
    assert document["answers"][0]["agrees"] is None
    assert "budget" in document["answers"][0]["why"]
    page = (tmp_path / "brief-full/report.html").read_text(encoding="utf-8")
    assert "Ended by the budget" in page
    assert '<th scope="row">a</th>' in page
    assert "the budget ended a early" in page
    whole = run_book(Book(made("whole", a=1), folder=tmp_path / "whole"), minutes=10.0)
    assert whole.cut == {}
    assert "Ended by the budget" not in whole.report.read_text(encoding="utf-8")


def test_a_forecast_covers_every_run_and_times_alike_ones_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[dict[str, Any]] = []

    def seconds(data: str, root: str | None, settings: dict[str, Any]) -> float:
        timed.append(settings)
        return float(settings["epochs"])

    def networks(book: Book) -> None:
        first = book.train("digits", name="a", epochs=2, model="plain", seed=0)
        book.train("digits", name="b", epochs=2, model="plain", seed=1)
        book.train("digits", name="c", epochs=1, weights=str(first.path), finetune="head", input_size=16)

    monkeypatch.setattr("opsin.labs.plans._seconds", seconds)
    lab = Lab(name="made", title="Made", words="For tests.", questions=(), networks=networks)
    found = forecast(Book(lab, folder=tmp_path))
    assert found.seconds == {"a": 2.0, "b": 2.0, "c": 1.0}
    assert timed[1] == {"epochs": 1, "model": "plain", "seed": 0, "input_size": 16}
    assert len(timed) == 2
    assert found.minutes == pytest.approx(5 / 60)


def test_a_lab_tells_how_long_its_trainings_take_here_or_why_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labs, "get", lambda name: made("brief", a=2, b=2))
    assert main(["lab", "show", "brief"]) == 0
    assert re.search(r"forecast: quick, 2 trainings, about .+ at the speed just measured", capsys.readouterr().out)
    assert main(["lab", "show", "brief", "--json"]) == 0
    forecast_of_both = json.loads(capsys.readouterr().out)["forecast"]
    assert forecast_of_both["seconds"].keys() == {"a", "b"}
    assert min(forecast_of_both["seconds"].values()) > 0
    monkeypatch.undo()
    assert main(["lab", "show", "mnist", "--full", "--root", str(tmp_path)]) == 0
    assert "none of the full form" in capsys.readouterr().out


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
