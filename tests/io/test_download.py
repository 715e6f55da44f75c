"""Downloads against a server of our own: resumed, checked, and never under the final name before they are whole."""

import hashlib
import io
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from opsin.errors import DownloadError
from opsin.io.download import _CheckedRedirects, fetch

BODY = bytes(range(256)) * 5000
HASH = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves BODY; the path says how: /whole, /ranges, /drops (closes half-way), /altered, /missing, /to-file."""

    requests: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.requests.append((self.path, asked))
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path.startswith("/to-"):
            self.send_response(302)
            self.send_header("Location", {"/to-file": "file:///etc/passwd", "/to-far": "http://192.0.2.1/x"}[self.path])
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.path != "/whole" else 0
        if asked and start >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        body = BODY[start:] if self.path != "/altered" else b"x" * (len(BODY) - start)
        self.wfile.write(body[: len(BODY) // 3] if self.path == "/drops" else body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    requests: list[tuple[str, str | None]] = []
    handler = type("Recorder", (Handler,), {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}", requests
        made.shutdown()
        thread.join()


Server = tuple[str, list[tuple[str, str | None]]]


def test_a_file_is_fetched_checked_and_reported(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(f"{server[0]}/whole", tmp_path / "new" / "a", sha256=HASH.upper(), report=lambda *at: seen.append(at))
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert [p.name for p in path.parent.iterdir()] == ["a"]


def test_a_file_that_is_there_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BODY)
    fetch(f"{server[0]}/whole", tmp_path / "a", sha256=HASH)
    assert server[1] == []
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="wrong SHA-256"):
        fetch(f"{server[0]}/whole", tmp_path / "a", sha256=HASH)
    assert (tmp_path / "a").read_bytes() == b"mine"


def test_a_broken_connection_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    assert fetch(f"{server[0]}/drops", tmp_path / "a", sha256=HASH).read_bytes() == BODY
    third = len(BODY) // 3
    assert [asked for _, asked in server[1]][:3] == [None, f"bytes={third}-", f"bytes={2 * third}-"]


def test_the_next_try_goes_on_from_the_part(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(BODY[:1000])
    fetch(f"{server[0]}/ranges", tmp_path / "a", sha256=HASH)
    assert server[1] == [("/ranges", "bytes=1000-")]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_server_that_cannot_resume_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"y" * 1000)
    assert fetch(f"{server[0]}/whole", tmp_path / "a", sha256=HASH).read_bytes() == BODY


def test_a_part_of_another_version_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"old" * 1000)
    assert fetch(f"{server[0]}/ranges", tmp_path / "a", sha256=HASH).read_bytes() == BODY
    assert len(server[1]) == 2


def test_a_whole_part_only_gets_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(BODY)
    assert fetch(f"{server[0]}/ranges", tmp_path / "a", sha256=HASH).read_bytes() == BODY


def test_an_altered_file_never_gets_its_name(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="wrong SHA-256"):
        fetch(f"{server[0]}/altered", tmp_path / "a", sha256=HASH)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", ["missing", "to-file", "to-far"])
def test_errors_and_redirects_elsewhere_are_refused(page: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        fetch(f"{server[0]}/{page}", tmp_path / "a", sha256=HASH)
    assert list(tmp_path.iterdir()) == []


def test_an_endless_body_is_cut(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="too long"):
        fetch(f"{server[0]}/whole", tmp_path / "a", sha256=HASH, max_bytes=1000)
    assert not (tmp_path / "a").exists()


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        port = made.server_port
    with pytest.raises(DownloadError, match="check the network"):
        fetch(f"http://127.0.0.1:{port}/x", tmp_path / "a", sha256=HASH)


def test_file_addresses_are_copied(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(BODY)
    assert fetch((tmp_path / "source").as_uri(), tmp_path / "a", sha256=HASH).read_bytes() == BODY
    with pytest.raises(DownloadError):
        fetch((tmp_path / "nothing").as_uri(), tmp_path / "b", sha256=HASH)


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://example.org/x", "javascript:1", "", "a b", "https://[", "data:,x", "/etc/x"]
)
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="refused address"):
        fetch(url, tmp_path / "a", sha256=HASH)


def test_no_other_machine_leads_to_this_one(tmp_path: Path) -> None:
    asked = urllib.request.Request("https://example.org/photos.zip")
    with pytest.raises(DownloadError, match="refused redirect"):
        _CheckedRedirects().redirect_request(asked, io.BytesIO(), 302, "", {}, "http://127.0.0.1:8200/runs")
