"""Files: atomic writes under every fault, JSON, hashes, natural order, walking folders."""

import errno
import hashlib
import io
import json
import math
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from opsin.errors import AnnotationError, InputError, WriteError
from opsin.io.files import atomic_folder, read_json, sha256_file, write_atomically, write_json
from opsin.io.gate import read_bytes
from opsin.io.temporary import is_temporary
from opsin.io.walking import PathsBelow, natural_key, walk_files


def failing(call: Callable[..., object], at: int, code: int) -> Callable[..., object]:
    """`call`, but its `at`-th use raises an OSError."""
    count = iter(range(10**6))

    def wrapper(*args: object, **options: object) -> object:
        if next(count) == at:
            raise OSError(code, os.strerror(code))
        return call(*args, **options)

    return wrapper


def every_fault(*names: str) -> list[tuple[str, int, int]]:
    codes = (errno.ENOSPC, errno.EIO, errno.EACCES)
    return [(name, at, code) for name in names for at in range(3) for code in codes]


def test_write_atomically_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_partial_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize(("name", "at", "code"), every_fault("open", "write", "fsync", "replace"))
def test_a_fault_while_writing_keeps_the_old_file_and_leaves_no_other(
    name: str, at: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(getattr(os, name), at, code))
        with suppress(WriteError):  # calls beyond the last one do not fail
            write_atomically(path, b"new")
    assert path.read_bytes() in (b"old", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    if at == 0:
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize(("name", "at", "code"), every_fault("fsync", "replace", "mkdir"))
@pytest.mark.parametrize("replace", [False, True])
def test_a_fault_while_a_folder_is_written_leaves_the_old_or_the_new_one_whole(
    name: str, at: int, code: int, replace: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    if replace:
        folder.mkdir()
        (folder / "old").write_text("1")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(getattr(os, name), at, code))
        with suppress(WriteError), atomic_folder(folder, replace=replace) as made:
            (made / "new").write_text("1")
            (made / "also").write_text("1")
    assert {p.name for p in tmp_path.iterdir()} <= {"folder"}
    found = {p.name for p in folder.iterdir()} if folder.exists() else set()
    assert found in ({"new", "also"}, {"old"} if replace else set())


def test_an_error_in_the_block_removes_the_folder_and_passes_on(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_folder(tmp_path / "folder") as made:
            (made / "sub").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_inside_the_block_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No space left"), atomic_folder(tmp_path / "folder"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_refused_unless_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with atomic_folder(folder) as made:
        assert is_temporary(made)
        (made / "a").write_text("1")
    with pytest.raises(WriteError, match="exists"), atomic_folder(folder):
        pass
    with atomic_folder(folder, replace=True) as made:
        (made / "b").write_text("2")
    assert [p.name for p in walk_files(folder)] == ["b"]
    assert not is_temporary(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_folders_of_many_files_are_written_too(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "many") as made:
        for i in range(300):
            (made / str(i)).write_bytes(b"")
    assert len(walk_files(tmp_path / "many")) == 300


def test_json_comes_back_as_written(tmp_path: Path) -> None:
    value = {"ü": [1, 2.5, None, True, "x\n"], "nested": {"a": {}}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")


def test_an_undefined_score_becomes_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"score": (math.nan, 1.0)})
    assert read_json(tmp_path / "a.json") == {"score": [None, 1.0]}


@pytest.mark.parametrize("value", [math.inf, {1, 2}, Ellipsis, b"x"], ids=str)
def test_what_json_cannot_hold_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(WriteError):
        write_json(tmp_path / "a.json", value)
    assert list(tmp_path.iterdir()) == []


BAD_JSON = {
    "empty": b"",
    "no json": b"{",
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deeper than the limit": b"[" * 65 + b"]" * 65,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "unclosed and deep": b"[" * 1_000_000,
    "key given twice": b'{"a": 1, "a": 2}',
    "nan": b"[NaN]",
    "infinity": b"[-Infinity]",
    "latin-1": b'["\xe9"]',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "number of 100,000 digits": b"9" * 100_000,
    "two values": b"1 2",
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_malformed_json_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(BAD_JSON[name])
    with pytest.raises(AnnotationError):
        read_json(tmp_path / "a.json")


def test_json_limits_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([[[1]]]))
    assert read_json(tmp_path / "a.json", max_depth=3) == [[[1]]]
    with pytest.raises(AnnotationError, match="deep"):
        read_json(tmp_path / "a.json", max_depth=2)
    with pytest.raises(AnnotationError, match="too large"):
        read_json(tmp_path / "a.json", max_bytes=3)


def test_sha256_equals_hashlib(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(InputError):
        sha256_file(tmp_path)


def test_natural_order_puts_2_before_10() -> None:
    names = ["a1", "a2", "a10", "a10b", "b", "B2", "b10", "img-007", "img-7", "img-08", "٣", "²"]
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_key)[:7] == ["a1", "a2", "a10", "a10b", "b", "B2", "b10"]
    assert len({natural_key(name) for name in names}) == len(names)
    assert sorted(["9" * 5000, "1"], key=natural_key)[0] == "1"


def tree(root: Path) -> Path:
    for name in ("b10/x.jpg", "b2/2.jpg", "b2/10.jpg", "top.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return root


def test_walking_gives_natural_order(tmp_path: Path) -> None:
    found = [p.relative_to(tmp_path).as_posix() for p in walk_files(tree(tmp_path))]
    assert found == ["top.txt", "b2/2.jpg", "b2/10.jpg", "b10/x.jpg"]


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "root")
    (tmp_path / "outside").mkdir()
    for target in (tmp_path / "outside", Path("/etc/passwd"), Path("../outside")):
        (root / "link").symlink_to(target)
        with pytest.raises(InputError, match="leads out"):
            walk_files(root, print)
        (root / "link").unlink()


def test_loops_end_and_each_folder_is_read_once(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "b2" / "up").symlink_to("..")
    (root / "b10" / "self").symlink_to(".")
    notes: list[str] = []
    assert len(walk_files(root, notes.append)) == len(walk_files(root)) == 4
    assert len(notes) == 2


def test_pipes_and_broken_links_are_reported_or_refused(tmp_path: Path) -> None:
    root = tree(tmp_path)
    os.mkfifo(root / "pipe")
    (root / "broken").symlink_to("nowhere")
    notes: list[str] = []
    assert len(walk_files(root, notes.append)) == 4
    assert sorted(Path(note.split(":")[0]).name for note in notes) == ["broken", "pipe"]
    with pytest.raises(InputError, match="broken"):
        walk_files(root)
    with pytest.raises(InputError, match="pipe"):
        sha256_file(root / "pipe")


def test_a_link_to_itself_is_reported(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    notes: list[str] = []
    assert walk_files(tmp_path, notes.append) == []
    assert len(notes) == 1


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        walk_files(tmp_path / "missing")


def test_reading_asks_for_no_more_memory_than_the_file_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading with a limit of 16 GiB asked for 16 GiB, which a limit on the address space refuses."""
    asked: list[int] = []

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(-1 if size is None else size)
            return super().read(size)

    (tmp_path / "a").write_bytes(b"abc")
    monkeypatch.setattr(os, "fdopen", lambda handle, mode: (os.close(handle), Counting(b"abc"))[1])
    monkeypatch.setattr(os, "fstat", lambda handle: (tmp_path / "a").stat())
    assert read_bytes(tmp_path / "a", InputError, 16 << 30) == b"abc"
    assert asked == [4]


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"abcdef")
    short = os.stat_result((*(tmp_path / "a").stat()[:6], 3, *(tmp_path / "a").stat()[7:]))
    monkeypatch.setattr(os, "fstat", lambda handle: short)
    with pytest.raises(InputError, match="changed while it was read"):
        read_bytes(tmp_path / "a", InputError, 100)


def test_paths_below_a_folder_are_those_of_pathlib(tmp_path: Path) -> None:
    """Of relative roots and of the folder one is in too, whose "." is not written."""
    names = ["a/1.jpg", "b.jpg"]
    for root in (tmp_path, Path(), Path("here")):
        below = PathsBelow(root, names)
        assert list(below) == [root / name for name in names]
        assert below.texts == [str(root / name) for name in names]
        assert list(below[1:]) == [root / "b.jpg"]
        assert list(below.take([1, 1])) == [root / "b.jpg"] * 2
