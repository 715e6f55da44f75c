"""What lies in a folder of runs is listed, shown and removed; what is no run of it is left alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from opsin.cli import main
from opsin.errors import ConfigError, RunError
from opsin.runs.lock import locked
from opsin.runs.shelf import CHECKPOINTS, named, row, rows, to_prune

FIXTURES = Path(__file__).parent / "fixtures" / "v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two finished runs, an unfinished one, a damaged one, and something that is no run."""
    runs = tmp_path / "runs"
    for age, name in enumerate(("digits", "digit_scenes", "unfinished", "damaged")):
        source = FIXTURES / (name if (FIXTURES / name).is_dir() else "digits")
        shutil.copytree(source, runs / name)
        os.utime(runs / name / "config.json", (1e9 + 86_400 * age,) * 2)
    (runs / "unfinished" / "summary.json").unlink()
    (runs / "damaged" / "summary.json").write_text("{")
    (runs / "notes").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(FIXTURES / "digits", tmp_path / "elsewhere" / "digits")
    return runs


def test_every_run_has_a_row_with_its_main_score_and_state(folder: Path) -> None:
    found = {one.name: one for one in rows(folder)}
    assert list(found) == ["digits", "digit_scenes", "unfinished", "damaged"]
    assert [one.state for one in found.values()] == ["finished", "finished", "unfinished", "damaged"]
    stored = json.loads((folder / "digits" / "scores.json").read_text())["val"]["scores"]["accuracy"]
    assert (found["digits"].score_name, found["digits"].score) == ("accuracy", stored["value"])
    assert found["digit_scenes"].score_name == "joint_accuracy"


def test_a_run_that_a_process_trains_is_told_apart_and_stays(folder: Path) -> None:
    with locked(folder / "unfinished"):
        assert row(folder / "unfinished").state == "training"
        assert to_prune(folder, unfinished=True) == []
        with pytest.raises(RunError, match="a process is training"):
            named(["unfinished"], folder)
    assert [one.name for one in to_prune(folder, unfinished=True)] == ["unfinished"]


@pytest.mark.parametrize("name", ["../elsewhere/digits", "/", ".", "..", "digits/model", "link", "notes", "no-such"])
def test_only_runs_of_the_folder_are_removed(name: str, folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "elsewhere" / "digits")
    before = sorted(folder.parent.rglob("*"))
    assert main(["runs", "rm", name, "--runs", str(folder), "--yes"]) == 2
    assert sorted(folder.parent.rglob("*")) == before


def test_nothing_is_removed_unless_yes_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "rm", "digits", "--runs", str(folder)]) == 2
    assert "--yes" in capsys.readouterr().err
    assert (folder / "digits" / "config.json").is_file()
    assert main(["runs", "rm", "digits", "--runs", str(folder), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [str(folder / "digits")]
    assert not (folder / "digits").exists()


def test_pruning_removes_what_fits_all_that_is_asked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="prune what"):
        to_prune(folder)
    assert len(to_prune(folder, older_than_days=1)) == 4
    assert main(["runs", "prune", "--unfinished", "--older-than", "1", "--runs", str(folder), "--yes"]) == 0
    assert [one.name for one in rows(folder)] == ["digits", "digit_scenes", "damaged"]


def test_checkpoints_are_removed_alone(folder: Path) -> None:
    (folder / "digits" / CHECKPOINTS).mkdir(exist_ok=True)
    arguments = ["runs", "prune", "--older-than", "1", "--checkpoints", "--runs", str(folder), "--yes"]
    assert main(arguments) == 0
    assert not (folder / "digits" / CHECKPOINTS).exists()
    assert len(rows(folder)) == 4


def test_one_run_is_shown_with_its_scores_and_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "digits", "--runs", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["scores"]["val"]["accuracy"]["value"] == shown["score"]
    assert shown["bytes"] == sum(file.stat().st_size for file in (folder / "digits").rglob("*") if file.is_file())
