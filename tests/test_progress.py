from __future__ import annotations

import sys

import pytest

from opsin import progress
from opsin.progress import Reporter


def test_without_a_terminal_progress_is_plain_lines_with_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    reporter = Reporter()
    with reporter.bar("training", 40) as bar:
        now += 20
        bar.advance(10, note="loss 0.5")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "training: 10/40, 1 min 0 s left, loss 0.5\n"


def test_quick_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter().bar("packing", 10) as bar:
        bar.advance(10)
    assert capsys.readouterr().err == ""


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True)
    reporter.message("hello")
    with reporter.bar("training", 1) as bar:
        bar.advance()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_there_is_no_estimate_before_anything_is_done() -> None:
    with Reporter(quiet=True).bar("x", 5) as bar:
        assert bar.seconds_left() is None


def test_what_is_left_is_no_more_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Reporter(quiet=True).bar("training", 1000, budget_s=60) as bar:
        assert bar.seconds_left() == 60
        now += 20
        bar.advance(10)
        assert bar.seconds_left() == 40
        bar.advance(980)
        assert bar.seconds_left() == pytest.approx(20 / 990 * 10)
        now += 50
        assert bar.seconds_left() == 0


def test_work_done_before_a_resumption_does_not_count_as_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Reporter(quiet=True).bar("training", 40, earlier=20) as bar:
        assert bar.seconds_left() is None
        now += 10
        bar.advance(10)
        assert bar.seconds_left() == 10


def test_a_message_stands_for_the_line_of_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    reporter = Reporter()
    with reporter.bar("training", 40) as bar:
        now += 20
        reporter.message("epoch 1 of 4")
        bar.advance(10)
    assert capsys.readouterr().err == "epoch 1 of 4\n"


def test_work_that_ends_with_a_budget_shows_the_share_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Reporter().bar("training", 100_000, budget_s=60) as bar:
        now += 30
        bar.advance(10)
    assert capsys.readouterr().err == "training: 50%, 30 s left\n"


def test_on_a_terminal_messages_stay_above_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    reporter = Reporter()
    with reporter.bar("training", 40) as bar:
        reporter.message("epoch 1 of 4  loss  0.5000")
        bar.advance(40)
    assert "epoch 1 of 4  loss  0.5000\n" in capsys.readouterr().err
