"""One line an epoch, in columns, and no flood of them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from opsin.runs import Run
from opsin.training.engine import epoch_lines
from opsin.training.engine.epoch_lines import EpochLines, EpochResult


def result(epoch: int, score: float | None = 0.5, *, best: bool = False) -> EpochResult:
    return EpochResult(epoch=epoch, minutes=0.4 * epoch, seconds=epoch, loss=1 / epoch, val_score=score, best=best)


def lines_of(results: list[EpochResult], num_epochs: int, minutes: float | None = None) -> list[str]:
    written: list[str] = []
    lines = EpochLines(written.append, num_epochs=num_epochs, budget_minutes=minutes, score_title="accuracy")
    for found in results:
        lines.epoch(found)
    lines.close()
    return written


def epochs_in(written: list[str]) -> list[int]:
    return [int(re.findall(r"epoch +(\d+)", line)[0]) for line in written]


def test_each_of_a_few_epochs_has_its_line_in_columns() -> None:
    written = lines_of([result(epoch, best=epoch == 2) for epoch in range(1, 25)], 24)
    assert written[1] == "epoch  2 of 24  loss  0.5000  val accuracy 0.5000  best     2.0 s"
    assert written[13] == "epoch 14 of 24  loss  0.0714  val accuracy 0.5000            14 s"
    assert len(written) == 24
    assert len({len(line) for line in written}) == 1


def test_without_val_there_is_no_score() -> None:
    assert lines_of([result(1, None)], 1) == ["epoch 1 of 1  loss  1.0000     1.0 s"]


def test_with_a_budget_minutes_are_told_instead_of_the_number_of_epochs() -> None:
    written = lines_of([result(3)], 1000, minutes=5)
    assert written == ["epoch   3  1.2 of 5 min  loss  0.3333  val accuracy 0.5000           3.0 s"]


def test_hundreds_of_short_epochs_leave_about_thirty_lines_with_the_best_and_the_last() -> None:
    written = lines_of([result(epoch, best=epoch <= 331) for epoch in range(1, 501)], 500)
    assert 15 <= len(written) <= 31
    assert epochs_in(written)[-1] == 500
    assert 331 in epochs_in(written)
    assert epochs_in(written)[:10] == list(range(1, 11))


def test_the_best_epoch_is_not_told_twice() -> None:
    written = lines_of([result(epoch, best=epoch == 500) for epoch in range(1, 501)], 500)
    assert epochs_in(written).count(500) == 1


def test_a_slow_epoch_has_its_line_whatever_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(epoch_lines.time, "monotonic", lambda: now)
    written: list[str] = []
    lines = EpochLines(written.append, num_epochs=500, budget_minutes=None, score_title="accuracy")
    for epoch in range(1, 101):
        now += 20
        lines.epoch(result(epoch))
    assert len(written) == 100


@pytest.mark.parametrize("settings", [{"epochs": 3}, {"epochs": 3, "minutes": 5.0}])
def test_a_log_has_a_line_for_each_epoch_and_no_control_characters(
    quick_run: Callable[..., Run], capsys: pytest.CaptureFixture[str], settings: dict[str, float]
) -> None:
    quick_run(quiet=False, **settings)
    log = capsys.readouterr().err
    lines = [line for line in log.splitlines() if line.startswith("epoch ")]
    assert epochs_in(lines) == [1, 2, 3]
    assert all(re.search(r"loss +\d\.\d{4}  val accuracy 0\.\d{4}", line) for line in lines)
    assert any("best" in line for line in lines)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", log)


def test_a_quiet_run_prints_nothing(quick_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    quick_run()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
