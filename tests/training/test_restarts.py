"""What a group of processes needs when it is started again is kept in a file, and forgotten when its run has ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from opsin.processes import NOTES_VARIABLE
from opsin.training.engine.restarts import RestartNotes


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a launcher that gives its launch a name."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job/17")
    monkeypatch.delenv(NOTES_VARIABLE, raising=False)


def test_a_process_that_was_not_launched_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    notes = RestartNotes(tmp_path)
    notes.keep({"run": "a"})
    assert notes.read() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("group")
def test_notes_are_those_of_one_launch_until_they_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RestartNotes(tmp_path).keep({"run": "a"})
    RestartNotes(tmp_path).keep({"parts": 4})
    assert RestartNotes(tmp_path).read() == {"run": "a", "parts": 4}
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-18")
    assert RestartNotes(tmp_path).read() == {}
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job/17")
    RestartNotes(tmp_path).forget()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("group")
def test_a_launcher_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTES_VARIABLE, str(tmp_path / "notes.json"))
    RestartNotes(tmp_path / "runs").keep({"run": "a"})
    assert (tmp_path / "notes.json").is_file()
    RestartNotes(tmp_path / "runs").forget()
    assert RestartNotes(tmp_path / "runs").read() == {"run": "a"}  # a process may be killed after the run's end


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_notes_that_cannot_be_read_are_none(content: str, tmp_path: Path) -> None:
    notes = RestartNotes(tmp_path)
    assert notes.path is not None
    notes.path.write_text(content)
    assert notes.read() == {}


@pytest.mark.usefixtures("group")
def test_minutes_count_from_the_first_start(tmp_path: Path) -> None:
    notes = RestartNotes(tmp_path)
    assert notes.began(5.0) == 5.0
    notes.keep({"began": time.time() - 60})
    assert time.monotonic() - notes.began(time.monotonic()) >= 60
