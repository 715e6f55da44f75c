"""Temporary names tell whose they are: what a killed process left is removed, what somebody writes is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opsin.errors import NameTakenError
from opsin.io import files
from opsin.io.files import atomic_folder
from opsin.io.temporary import abandoned, is_temporary, owner_lives, remove_abandoned, temporary_beside

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners cannot be asked for there")


def left_by_another(folder: Path) -> Path:
    """The temporary name of a process that has ended."""
    name = repr(str(folder / "a"))
    code = f"from pathlib import Path; from opsin.io.temporary import *; print(temporary_beside(Path({name})))"
    return Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


def test_a_name_tells_its_owner(tmp_path: Path) -> None:
    own = temporary_beside(tmp_path / "a")
    assert is_temporary(own)
    assert owner_lives(own) is True
    assert owner_lives(left_by_another(tmp_path)) is False


def test_what_a_gone_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    gone, own = left_by_another(tmp_path), temporary_beside(tmp_path / "b")
    host, rest = own.name.split(".")[2].split("-", 1)
    elsewhere = tmp_path / own.name.replace(f"{host}-{rest}", f"00000000-{rest}")
    other_start = tmp_path / f".c.{host}-{os.getpid()}-1-0123abcd.tmp"
    fresh_and_of_old = tmp_path / ".d.77-ab12cd34.tmp"
    for path in (gone, own, elsewhere, other_start, fresh_and_of_old, tmp_path / "kept"):
        (path / "inside").mkdir(parents=True)
    if owner_lives(other_start):  # the system does not tell when a process began
        other_start = gone
    assert abandoned(tmp_path) == sorted({gone, other_start})
    assert remove_abandoned(tmp_path) == len({gone, other_start})
    assert {own, elsewhere, fresh_and_of_old, tmp_path / "kept"} <= set(tmp_path.iterdir())


def test_files_of_earlier_versions_are_removed_after_a_day(tmp_path: Path) -> None:
    old = tmp_path / ".d.77-ab12cd34.tmp"
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    assert remove_abandoned(tmp_path) == 1


def test_a_name_that_another_process_takes_meanwhile_is_refused_as_taken(tmp_path: Path) -> None:
    target = tmp_path / "entry"

    def write() -> None:
        with atomic_folder(target) as new:
            (new / "mine").touch()
            target.mkdir()
            (target / "theirs").touch()

    with pytest.raises(NameTakenError):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["entry", "theirs"]


def test_a_name_taken_between_the_look_and_the_rename_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, lexists = tmp_path / "entry", os.path.lexists

    def late(path: Path) -> bool:
        """Says that nothing is there, and then somebody is quicker."""
        there = lexists(path)
        if path == target and not there:
            target.mkdir()
            (target / "theirs").touch()
        return there

    with atomic_folder(target, replace=True) as new:
        (new / "mine").touch()
        monkeypatch.setattr(files.os.path, "lexists", late)
    assert [path.name for path in tmp_path.rglob("*")] == ["entry", "mine"]
