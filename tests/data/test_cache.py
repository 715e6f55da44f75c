"""The cache: two processes that pack the same, what a killed one left, and what the command line shows of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from opsin.cli import main
from opsin.data import pack as packing
from opsin.data.cache import cache_entries, prune_cache
from opsin.data.load import load
from opsin.data.pack import pack, usable_cache
from opsin.errors import ConfigError
from opsin.types import SizePolicy

POLICY = SizePolicy(height=8, width=8)
LEFT = ".key.77-ab12cd34.tmp"


@pytest.fixture
def cache(tmp_path: Path, photos: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with three packed splits, what is known of their files and of near copies, and an unfinished entry."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    pack(load(photos({"a": 9, "b": 9})), POLICY, cache=tmp_path / "cache")
    left = tmp_path / "cache" / "packed" / LEFT
    left.mkdir()
    (left / "images.bin").write_bytes(b"x" * 1000)
    for path in (left / "images.bin", left):
        os.utime(path, (1, 1))
    return tmp_path / "cache"


def test_two_processes_that_pack_the_same_share_the_first_entry(
    tmp_path: Path, photos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, decode, nested = load(photos({"a": 9, "b": 9})), packing._decode, []

    def raced(*args: Any) -> Any:
        """While this process decodes, another one packs the same."""
        if not nested:
            nested.append(True)
            pack(data, POLICY, cache=tmp_path / "cache")
        return decode(*args)

    monkeypatch.setattr(packing, "_decode", raced)
    assert len(pack(data, POLICY, cache=tmp_path / "cache")["train"].images)
    assert not list((tmp_path / "cache").rglob(".*.tmp"))


def test_what_a_killed_process_left_is_removed_at_the_next_start(cache: Path) -> None:
    usable_cache()
    assert not (cache / "packed" / LEFT).exists()
    assert sorted(entry.kind for entry in cache_entries()) == ["copies", "files", "packed", "packed", "packed"]


def test_entries_tell_their_data_size_and_age(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "cache", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    entries = [entry for entry in found["entries"] if entry["kind"] == "packed" and "train" in entry["about"]]
    assert entries[0]["about"].endswith("x 3 x 8 x 8")
    assert entries[0]["bytes"] > 192
    assert found["bytes"] == sum(entry["bytes"] for entry in found["entries"])
    assert main(["data", "cache", "list"]) == 0
    assert "train" in capsys.readouterr().out


def test_pruning_by_age_keeps_what_is_new(cache: Path) -> None:
    removed = prune_cache(older_than_days=1)
    assert [entry.path.name for entry in removed] == [LEFT]
    assert len(cache_entries()) == 5


def test_pruning_all_leaves_nothing(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "cache", "prune", "--all", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["removed"]) == 6
    assert cache_entries() == []


@pytest.mark.parametrize("options", [[], ["--all", "--older-than", "3"], ["--older-than", "-1"]])
def test_pruning_says_what_it_would_need_to_know(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "cache", "prune", *options]) == ConfigError.exit_code
    assert "--older-than DAYS" in capsys.readouterr().err
