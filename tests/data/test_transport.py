"""Archives and addresses as data sets."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from opsin.data.cache import FILE_KINDS, cache_entries
from opsin.data.load import load
from opsin.errors import ArchiveError, DataError, DownloadError
from opsin.io.images import encode_png
from opsin.runs import dataset_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def members(prefix: str = "photos/") -> dict[str, bytes]:
    """Class folders with twelve photos of each of two classes."""
    rng = np.random.default_rng(0)
    return {
        f"{prefix}{name}/{i}.png": encode_png(rng.integers(0, 255, (3, 12, 12)).astype(np.uint8))
        for name in ("cat", "dog")
        for i in range(12)
    }


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def served(tmp_path: Path):
    """A folder, its address on this machine, and the paths that were asked for."""
    folder, asked = tmp_path / "www", []
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("pets.zip", zipped(members())),
        ("pets.zip", zipped(members(""))),
        ("pets.zip", zipped(members() | {"__MACOSX/._photos": b"x"})),
        ("pets.tar", tarred(members())),
        ("pets.tar.gz", tarred(members(), "w:gz")),
        ("pets.tgz", tarred(members("a/b/"), "w:gz")),
    ],
    ids=["zip", "zip without a top folder", "zip of a Mac", "tar", "tar.gz", "tgz of nested folders"],
)
def test_an_archive_is_a_data_set(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found = load(tmp_path / name)
    assert (found.name, found.task, found.classes) == ("pets", "classify", ("cat", "dog"))
    assert sum(len(split) for split in found.splits.values()) == 24
    assert any("unpacked from" in note for note in found.notes)
    assert found.source == str(tmp_path / name)


def test_an_archive_is_unpacked_once_and_the_cache_tells_what_it_is(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pets.zip").write_bytes(zipped(members()))
    first = load(tmp_path / "pets.zip")
    monkeypatch.setattr("opsin.data.transport.extract", None)
    assert load(tmp_path / "pets.zip").fingerprint() == first.fingerprint()
    entries = [entry for entry in cache_entries(cache) if entry.kind not in FILE_KINDS]
    assert [(entry.kind, entry.about) for entry in entries] == [("unpacked", "pets")]


@pytest.mark.parametrize("seed", range(12))
def test_a_cut_or_garbled_archive_is_refused(tmp_path: Path, cache: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = tarred(members(), "w:gz") if seed % 2 else zipped(members())
    data = whole[: int(rng.integers(1, len(whole) - 30))] if seed % 3 else rng.bytes(500)
    (tmp_path / "pets.zip").write_bytes(data)
    with pytest.raises(ArchiveError):
        load(tmp_path / "pets.zip")
    assert not list(cache.glob("unpacked/*/*"))


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pets.zip").write_bytes(zipped(members() | {"../evil.png": b"x"}))
    with pytest.raises(ArchiveError, match="leaves the folder"):
        load(tmp_path / "pets.zip")


def test_an_address_is_fetched_once(served, cache: Path) -> None:
    folder, address, asked = served
    (folder / "pets.zip").write_bytes(zipped(members()))
    first = load(f"{address}/pets.zip")
    assert (first.name, first.source) == ("pets", f"{address}/pets.zip")
    assert any("SHA-256" in note for note in first.notes)
    again = load(f"{address}/pets.zip")
    assert asked == ["/pets.zip"]
    assert any("from the cache" in note for note in again.notes)
    assert {entry.kind for entry in cache_entries(cache)} - set(FILE_KINDS) == {"unpacked", "downloads"}


def test_an_address_that_a_file_names_is_not_followed(served) -> None:
    folder, address, asked = served
    (folder / "pets.zip").write_bytes(zipped(members()))
    with pytest.raises(DataError, match="is not followed"):
        load(f"{address}/pets.zip", typed=False)
    assert asked == []
    load(f"{address}/pets.zip")
    assert load(f"{address}/pets.zip", typed=False).name == "pets"


def test_a_run_reads_its_data_without_fetching_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def record(source: str, **given: object) -> None:
        seen.update(given)
        raise DataError("stop")

    monkeypatch.setattr("opsin.data.load.load", record)
    run = type("R", (), {"config": type("C", (), {"source": "a", "root": None, "data": None}), "task": "classify"})
    run.data = type("D", (), {"fingerprint": ""})
    with pytest.raises(DataError, match="stop"):
        dataset_of(run)  # type: ignore[arg-type]
    assert seen["typed"] is False


def test_an_address_that_answers_no_file_is_refused(served) -> None:
    _, address, _ = served
    with pytest.raises(DownloadError):
        load(f"{address}/none.zip")


def test_an_address_of_another_machine_without_encryption_is_refused() -> None:
    with pytest.raises(DownloadError, match="refused address"):
        load("http://example.org/photos.zip")


def samples(classes: tuple[str, ...] = ("0", "1"), count: int = 12, prefix: str = "") -> dict[str, bytes]:
    rng = np.random.default_rng(len(prefix))
    files: dict[str, bytes] = {}
    for i in range(count):
        files[f"{prefix}{i:04}.png"] = encode_png(rng.integers(0, 255, (3, 12, 12)).astype(np.uint8))
        files[f"{prefix}{i:04}.cls"] = classes[i % len(classes)].encode()
        files[f"{prefix}{i:04}.json"] = b"{}"
    return files


def test_a_webdataset_tar_is_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "pets.tar").write_bytes(tarred(samples(count=24)))
    found = load(tmp_path / "pets.tar")
    assert (found.layout, found.classes) == ("WebDataset, undivided", ("0", "1"))


def test_shards_of_a_webdataset_belong_to_the_split_of_their_name(tmp_path: Path) -> None:
    for shard, prefix in (("train-0000", "a"), ("train-0001", "b"), ("val-0000", "c")):
        (tmp_path / f"{shard}.tar").write_bytes(tarred(samples(prefix=prefix)))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = load(tmp_path)
    assert found.classes == ("cat", "dog")
    assert {split: len(source) for split, source in found.splits.items()} == {"train": 24, "val": 12}
    assert found.splits["train"].ids[0] == "train-0000/a0000.png"


@pytest.mark.parametrize("lost", ["0003.cls", "0003.png"])
def test_a_sample_of_a_webdataset_without_image_or_class_is_named(tmp_path: Path, lost: str) -> None:
    files = samples()
    del files[lost]
    (tmp_path / "pets.tar").write_bytes(tarred(files))
    with pytest.raises(DataError, match="0003"):
        load(tmp_path / "pets.tar")
