"""The trials of a search: claimed once, taken up again when their process dies, the same whoever draws them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from opsin.studies.locks import FileLock, repair_journal
from opsin.studies.search import MOST_ATTEMPTS, Search, best_of
from opsin.studies.space import Choices, Range

SPACE = (
    Range(name="lr", low=0.001, high=0.1, log=True),
    Choices(name="filters", choices={"8": {"filters": [8]}, "16": {"filters": [16]}}),
)
FIRST = {"lr": 0.01, "filters": "16"}


def search(folder: Path, *, seed: int = 0) -> Search:
    return Search(folder, SPACE, first=FIRST, seed=seed, epochs=4)


def work(found: Search, limit: int) -> int:
    """Complete a trial; its score follows from its values. Returns its number."""
    with found.claimed(limit) as trial:
        assert trial is not None
        for epoch in range(1, 4):
            found.report(trial, epoch, trial.params["lr"] * epoch)
        found.tell(trial, "complete", score=3 * trial.params["lr"], seconds=1.0)
        return int(trial.number)


def test_the_first_trial_is_the_settings_as_they_are(tmp_path: Path) -> None:
    found = search(tmp_path)
    work(found, 3)
    assert dict(found.trials()[0].values) == FIRST


def test_no_more_trials_are_begun_than_asked_for(tmp_path: Path) -> None:
    found = search(tmp_path)
    assert [work(found, 3) for _ in range(3)] == [0, 1, 2]
    with found.claimed(3) as trial:
        assert trial is None
    with found.claimed(None) as trial:
        assert trial is not None


def test_a_new_process_draws_what_the_old_one_would_have_drawn(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole")
    for _ in range(12):
        work(whole, 12)
    for _ in range(12):
        work(search(tmp_path / "parts"), 12)
    parts = search(tmp_path / "parts")
    assert [trial.values for trial in parts.trials()] == [trial.values for trial in whole.trials()]
    assert len({trial.values["lr"] for trial in whole.trials()}) == 12


def test_another_seed_draws_other_values(tmp_path: Path) -> None:
    for seed in (0, 1):
        for _ in range(2):
            work(search(tmp_path / str(seed), seed=seed), 2)
    first, second = (search(tmp_path / str(seed)).trials()[1].values for seed in (0, 1))
    assert first != second


def test_a_trial_whose_process_died_goes_on_under_its_number(tmp_path: Path) -> None:
    dying = search(tmp_path)
    with dying.claimed(5) as trial:
        assert trial is not None
        dying.report(trial, 1, 0.5)
        values = dict(trial.params)
    with search(tmp_path).claimed(5) as again:
        assert again is not None
        assert (again.number, dict(again.params)) == (0, values)
        search(tmp_path).report(again, 1, 0.5)
        search(tmp_path).report(again, 2, 0.6)
    assert search(tmp_path).trials()[0].curve == {1: 0.5, 2: 0.6}


def test_a_trial_that_another_process_works_on_is_not_given_out(tmp_path: Path) -> None:
    first, second = search(tmp_path), search(tmp_path)
    with first.claimed(5) as one, second.claimed(5) as other:
        assert one is not None
        assert other is not None
        assert (one.number, other.number) == (0, 1)
        assert search(tmp_path).others_at_work()
    assert not first.others_at_work()
    with first.claimed(1) as again:
        assert again is not None
        assert again.number == 0  # both were let go; the first is taken up before a new one


def test_a_trial_that_kills_its_process_again_and_again_is_marked_failed(tmp_path: Path) -> None:
    for _ in range(MOST_ATTEMPTS + 1):
        with search(tmp_path).claimed(1) as trial:
            assert trial is not None
            assert trial.number == 0
    with search(tmp_path).claimed(1) as trial:
        assert trial is None
    (failed,) = search(tmp_path).trials()
    assert failed.state == "failed"
    assert "died" in failed.about["ended"]


def test_progress_between_deaths_keeps_a_trial_alive(tmp_path: Path) -> None:
    for epoch in range(1, MOST_ATTEMPTS + 4):
        found = search(tmp_path)
        with found.claimed(1) as trial:
            assert trial is not None
            found.report(trial, epoch, 0.1)
    assert len(search(tmp_path).trials()[0].curve) == MOST_ATTEMPTS + 3


def test_a_line_that_a_kill_left_torn_is_cut_off_and_the_study_goes_on(tmp_path: Path) -> None:
    found = search(tmp_path)
    work(found, 5)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "work')
    assert [trial.state for trial in search(tmp_path).trials()] == ["complete"]
    assert journal.read_bytes() == whole
    assert work(search(tmp_path), 5) == 1


def test_a_journal_of_one_torn_line_is_emptied(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    journal.write_bytes(b'{"op')
    repair_journal(journal)
    assert journal.read_bytes() == b""


def test_a_lock_is_held_once_and_can_be_taken_after_it_was_dropped(tmp_path: Path) -> None:
    one, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.take(wait=False)
    assert not other.take(wait=False)
    one.drop()
    assert other.take(wait=False)
    other.drop()


def test_trials_below_the_median_are_pruned_once_enough_have_ended(tmp_path: Path) -> None:
    found = search(tmp_path)
    for _ in range(5):
        work(found, 9)
    with found.claimed(9) as trial:
        assert trial is not None
        assert not found.report(trial, 1, -1.0)  # a quarter of the epochs are not judged
        assert found.report(trial, 2, -1.0)
        found.tell(trial, "pruned", ended="below the median")
    assert found.trials()[5].state == "pruned"


def test_a_score_that_is_undefined_is_not_reported(tmp_path: Path) -> None:
    found = search(tmp_path)
    with found.claimed(1) as trial:
        assert trial is not None
        assert not found.report(trial, 1, math.nan)
    assert found.trials()[0].curve == {}


def test_the_best_is_the_earlier_of_equals_and_complete(tmp_path: Path) -> None:
    found = search(tmp_path)
    for state, score in (("complete", 0.5), ("complete", 0.5), ("failed", 0.9)):
        with found.claimed(9) as trial:
            found.tell(trial, state, score=score)  # type: ignore[arg-type]
    best = best_of(found.trials())
    assert best is not None
    assert best.number == 0
    assert best_of([]) is None


@pytest.mark.parametrize("number", [0, 3])
def test_importances_wait_for_enough_trials(number: int, tmp_path: Path) -> None:
    found = search(tmp_path)
    for _ in range(number):
        work(found, 9)
    assert found.importances() == {}


def test_what_decides_the_score_is_the_most_important(tmp_path: Path) -> None:
    found = search(tmp_path)
    for _ in range(10):
        work(found, 10)
    shares = found.importances()
    assert next(iter(shares)) == "lr"
    assert sum(shares.values()) == pytest.approx(1)
