"""What is known of files without decoding them: hashes and sizes, kept in the cache until a file changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.data import file_facts
from opsin.data.file_facts import NO_IMAGE, NOT_SEEN, FileFacts, facts_of_files
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.data.sources import FileSource
from opsin.errors import DataError, ImageError
from opsin.io.gate import refusing
from opsin.io.images import encode_png
from opsin.io.walking import PathsBelow
from opsin.progress import Reporter
from opsin.types import SizePolicy


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three pictures of different sizes: 8x6, 6x8 by its orientation, and a TIFF; and a file that is none."""
    files = [tmp_path / name for name in ("a.png", "b.jpg", "c.tiff", "d.png")]
    files[0].write_bytes(encode_png(np.zeros((3, 8, 6), np.uint8)))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 6)).save(files[1], exif=turned)
    Image.new("RGB", (5, 5)).save(files[2])
    files[3].write_bytes(b"no picture")
    return files


def test_facts_are_the_hash_and_the_upright_size_of_each_file(paths: list[Path]) -> None:
    facts = facts_of_files(paths, cache=None)
    assert facts.digests == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert facts.sizes.tolist() == [[8, 6], [8, 6], [*NOT_SEEN], [*NO_IMAGE]]


def test_facts_are_which_files_have_16_bits_also_from_the_cache(paths: list[Path], tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 6), 700, np.uint16)).save(paths[0])
    for _ in range(2):
        facts = facts_of_files(paths, cache=tmp_path / "cache")
        assert facts.deep.tolist() == [True, False, False, False]
        assert facts.take(np.array([1, 0])).deep.tolist() == [False, True]


def test_files_are_read_once_until_one_changes(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = facts_of_files(paths, cache=tmp_path / "cache")
    reads: list[int] = []
    read = file_facts._read

    def counted(found: Sequence[Path], report: Reporter) -> tuple[FileFacts, bool]:
        reads.append(len(found))
        return read(found, report)

    monkeypatch.setattr(file_facts, "_read", counted)
    again = facts_of_files(paths, cache=tmp_path / "cache")
    assert not reads
    assert again.digests == first.digests
    assert np.array_equal(again.sizes, first.sizes)
    times = paths[0].stat()
    paths[0].write_bytes(encode_png(np.ones((3, 8, 6), np.uint8))[: times.st_size])
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))  # the time of the change of state cannot be set back
    assert facts_of_files(paths, cache=tmp_path / "cache").digests[0] != first.digests[0]
    assert reads == [4]


SEALED = b'{"value": {"digests": "", "sizes": [], "deep": []}, "sha256": "0"}'


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", SEALED, None])
def test_a_damaged_entry_is_made_again(damage: bytes | None, paths: list[Path], tmp_path: Path) -> None:
    first = facts_of_files(paths, cache=tmp_path / "cache")
    (entry,) = (tmp_path / "cache" / "files").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole.replace(b'"deep": []', b'"deep": [1]') if damage is None else damage)
    assert entry.read_bytes() != whole
    assert facts_of_files(paths, cache=tmp_path / "cache").digests == first.digests
    assert entry.read_bytes() == whole


def test_nothing_is_kept_while_a_file_cannot_be_read(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    paths[1].unlink()
    source = FileSource(paths=paths, ids=[path.name for path in paths], labels=np.zeros(4, np.int64))
    assert [bool(digest) for digest in source.facts.digests] == [True, False, True, True]
    assert source.digests[1] == "unread b.jpg"
    assert not (tmp_path / "cache" / "files").exists()


def test_nothing_is_kept_while_memory_was_lacking_for_a_header(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be enough the next time; the hashes, by which splits are drawn, are the same."""

    def lacking(data: bytes, name: str) -> None:
        with refusing(ImageError, name):
            raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(file_facts, "upright_size", lacking)
        first = facts_of_files(paths, cache=tmp_path / "cache")
    second = facts_of_files(paths, cache=tmp_path / "cache")
    assert first.digests == second.digests
    assert second.sizes.tolist() == [[8, 6], [8, 6], [*NOT_SEEN], [*NO_IMAGE]]


@pytest.mark.parametrize("root", ["", "here", "/somewhere"])
def test_paths_below_a_folder_have_the_state_of_plain_ones(root: str, paths: list[Path]) -> None:
    below = PathsBelow(Path(root), [path.name for path in paths])
    assert file_facts._state(below) == file_facts._state(list(below))
    below = PathsBelow(paths[0].parent, [path.name for path in paths])
    assert file_facts._state(below) == file_facts._state(paths)


def test_a_file_that_cannot_be_opened_is_skipped_on_request(
    photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    folder = photos({"a": 9, "b": 9})
    dataset = load(folder)
    gone = dataset.splits["train"].ids[0]
    (folder / gone).unlink()
    fresh = {name: replace(source) for name, source in dataset.splits.items()}  # nothing is known of their files
    policy = SizePolicy(height=8, width=8)
    with pytest.raises(DataError, match=r"--skip-unreadable"):
        pack(replace(dataset, splits=fresh), policy, cache=tmp_path / "cache")
    packed = pack(replace(dataset, splits=fresh), policy, cache=tmp_path / "cache", skip_unreadable=1)
    assert packed["train"].skipped == (gone,)


def test_a_path_longer_than_a_name_can_be_is_refused() -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load("a" * 300)


def test_parts_of_a_set_know_what_the_set_knows(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    source = FileSource(paths=paths, ids=[path.name for path in paths], labels=np.zeros(4, np.int64))
    alone = source.take(np.array([2, 0])).content
    assert source.facts.digests
    monkeypatch.setattr(file_facts, "_read", lambda *_: pytest.fail("files were read again"))
    assert source.take(np.array([2, 0])).content == alone


@pytest.mark.parametrize(("numbers", "size"), [([0, 1, 3], (8, 6)), ([0, 1, 2], None), ([2], (5, 5)), ([3], None)])
def test_the_size_is_that_which_all_pictures_share(
    numbers: list[int], size: tuple[int, int] | None, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    found = [paths[i] for i in numbers]
    source = FileSource(paths=found, ids=[path.name for path in found], labels=np.zeros(len(found), np.int64))
    assert source.take(np.arange(len(found))).size == size
    assert source.facts.sizes.shape == (len(found), 2)
    assert source.size == size
