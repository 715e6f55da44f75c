"""Data sets of the hub, against a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from opsin.data import hub
from opsin.data.cache import FILE_KINDS, cache_entries
from opsin.data.load import load
from opsin.errors import DataError, DownloadError
from opsin.io.images import encode_png

huggingface_hub = pytest.importorskip("huggingface_hub")
told_divisor = [1]
"""What the hub says of the length of a file is its length divided by this."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A hub with one data set; yields what was asked for."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    rng, asked = np.random.default_rng(0), []
    files = {
        f"{name}/{i}.png": encode_png(rng.integers(0, 255, (3, 12, 12)).astype(np.uint8))
        for name in ("cat", "dog")
        for i in range(12)
    }
    files["pets.py"] = b"raise SystemExit"

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            resolved = f"/datasets/me/pets/resolve/{COMMIT}/"
            if path in ("/api/datasets/me/pets/revision/v1", f"/api/datasets/me/pets/revision/{COMMIT}"):
                siblings = [{"rfilename": name, "size": len(data) // told_divisor[0]} for name, data in files.items()]
                self.answer(json.dumps({"id": "me/pets", "sha": COMMIT, "siblings": siblings}).encode())
            elif path == f"/api/datasets/me/pets/tree/{COMMIT}":
                tree = [{"type": "file", "path": name, "size": len(d), "oid": "0" * 40} for name, d in files.items()]
                self.answer(json.dumps(tree).encode())
            elif path.removeprefix(resolved) in files:
                self.answer(files[path.removeprefix(resolved)])
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def answer(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(hub, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_data_set_of_the_hub_is_fetched_once_and_none_of_its_code(served: list[str], tmp_path: Path) -> None:
    found = load("hf://me/pets@v1")
    assert (found.name, found.classes, found.source) == ("pets", ("cat", "dog"), "hf://me/pets@v1")
    assert any("downloaded from hf://me/pets@v1" in note for note in found.notes)
    assert not any("pets.py" in path for path in served)
    before = len(served)
    again = load("hf://me/pets@v1", typed=False)
    assert again.fingerprint() == found.fingerprint()
    assert len(served) == before
    assert all(any(COMMIT in note for note in kept.notes) for kept in (found, again))
    (entry,) = (entry for entry in cache_entries() if entry.kind not in FILE_KINDS)
    assert entry.about == "pets"


@pytest.mark.parametrize(("most", "fetched"), [(1000, False), (1000, True)])
def test_a_data_set_above_the_limit_of_downloads_is_refused_and_leaves_nothing(
    served: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, fetched: bool
) -> None:
    """By what the hub says of its files; and by what has come, should it have said less."""
    monkeypatch.setattr(hub, "MAX_DOWNLOAD_BYTES", most)
    if fetched:
        monkeypatch.setattr(f"{__name__}.told_divisor", [1000])
    with pytest.raises(DownloadError, match="too long"):
        load("hf://me/pets@v1")
    assert not list(tmp_path.glob("cache/downloads/*/*"))
    assert any("/resolve/" in path for path in served) == fetched


def test_a_name_that_a_file_gives_is_not_fetched(served: list[str]) -> None:
    with pytest.raises(DataError, match="is not followed"):
        load("hf://me/pets@v1", typed=False)
    assert served == []


def test_a_data_set_that_the_hub_does_not_have_is_refused_and_leaves_nothing(served: list[str], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="hf://me/none"):
        load("hf://me/none")
    assert not list(tmp_path.glob("cache/downloads/*/*"))


@pytest.mark.parametrize("name", ["hf://", "hf://a/b/c", "hf://../etc", "hf://me/pets@", "hf://me/pets@a b"])
def test_what_cannot_be_a_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_fetch", None)
    with pytest.raises(DataError):
        load(name)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"opsin\[hf\]"):
        load("hf://me/pets")
