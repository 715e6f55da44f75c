"""Fetching a catalogue set, from files of this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from opsin.data.catalogue import ENTRIES, Download, Entry
from opsin.data.fetch import fetch_entry
from opsin.errors import ArchiveError, DataError, DownloadError


def archive(path: Path, folder: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(f"{folder}/data.bin")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    return path


def entry(file: Path, *, sha256: str | None, unpack: str | None = "set") -> Entry:
    return Entry(
        name="set",
        task="classify",
        classes=("a", "b"),
        description="",
        splits="",
        layout="",
        folder="set",
        files=(Download(url=file.as_uri(), sha256=sha256, num_bytes=None, target="set.tar.gz", unpack=unpack),),
    )


def test_an_archive_is_fetched_checked_and_unpacked_under_its_folder(tmp_path: Path) -> None:
    file = archive(tmp_path / "source.tar.gz", "set")
    known = hashlib.sha256(file.read_bytes()).hexdigest()
    seen: list[str] = []
    folder = fetch_entry(entry(file, sha256=known), tmp_path / "root", report=lambda name, *_: seen.append(name))
    assert folder == tmp_path / "root" / "set"
    assert (folder / "data.bin").read_bytes() == b"abc"
    assert set(seen) == {"set.tar.gz"}
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["set", "set.tar.gz"]
    file.unlink()
    assert fetch_entry(entry(file, sha256=known), tmp_path / "root") == folder


def test_without_a_known_hash_nothing_is_fetched(tmp_path: Path) -> None:
    file = archive(tmp_path / "source.tar.gz", "set")
    with pytest.raises(DataError, match="by hand"):
        fetch_entry(entry(file, sha256=None), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_wrong_hash_leaves_no_set(tmp_path: Path) -> None:
    file = archive(tmp_path / "source.tar.gz", "set")
    with pytest.raises(DownloadError):
        fetch_entry(entry(file, sha256="0" * 64), tmp_path / "root")
    assert not (tmp_path / "root" / "set").exists()


def test_an_archive_of_another_layout_is_refused_without_traces(tmp_path: Path) -> None:
    file = archive(tmp_path / "source.tar.gz", "other")
    known = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ArchiveError, match="folder of the data set"):
        fetch_entry(entry(file, sha256=known), tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["set.tar.gz"]


def test_a_set_without_files_needs_no_fetching(tmp_path: Path) -> None:
    assert fetch_entry(ENTRIES["digits"], tmp_path) is None
