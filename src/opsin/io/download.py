"""Files fetched over HTTPS, or copied from a file URL: resumed where they broke off, checked, then given their name."""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from opsin.errors import DownloadError
from opsin.io.files import PathLike, sha256_file
from opsin.io.gate import MEBIBYTE, printable

Report = Callable[[int, int | None], None]
BLOCK_BYTES = MEBIBYTE
MAX_DOWNLOAD_BYTES = 64 * 1024 * MEBIBYTE
TIMEOUT_S = 30.0
ATTEMPTS = 3
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OFFLINE = "check the network, or put the file there by hand: what has arrived is kept and the next try goes on from it"


def fetch(
    url: str,
    target: PathLike,
    *,
    sha256: str | None,
    report: Report | None = None,
    max_bytes: int = MAX_DOWNLOAD_BYTES,
    timeout_s: float = TIMEOUT_S,
) -> Path:
    """Fetch a file and check its SHA-256; a file that is there already is only checked.

    Bytes gather in NAME.part beside the target, where the next try goes on. The target gets its name when the hash
    matches, never before.

    Args:
        url: https, file, or http of this machine.
        sha256: None where nobody has published it; what another process left half fetched is then not taken up.
        report: called with (bytes so far, bytes in all or None) as they arrive.

    Returns:
        The path of the target.

    Raises:
        DownloadError: no connection, an answer that is no success, too long, or of another hash.
    """
    path = Path(target)
    _check_url(url)
    if path.exists():
        if sha256 is not None:
            _check_hash(path, path, url, sha256)
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if sha256 is None:
            part.unlink(missing_ok=True)
        resumed = part.exists()
        _fetch_part(url, part, report, max_bytes, timeout_s)
        if resumed and sha256 is not None and sha256_file(part) != sha256.lower():
            part.unlink()  # the publisher's file may have changed since the first half came
            _fetch_part(url, part, report, max_bytes, timeout_s)
        _finish(part, path, url, sha256)
    except OSError as error:
        where = printable(path)
        raise DownloadError(
            "the download cannot be completed", where=where, got=printable(error), do=OFFLINE
        ) from error
    return path


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        ok = parts.scheme in ("https", "file") or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    except ValueError:
        ok = False
    if not ok or any(c.isspace() or not c.isprintable() for c in url):
        raise DownloadError("refused address", got=printable(url)[:300], expected="https:// or file://")


def _check_hash(file: Path, path: Path, url: str, sha256: str) -> None:
    found = sha256_file(file)
    if found != sha256.lower():
        do = f"remove {printable(file)} and try again; if it stays so, {printable(url)} was altered"
        raise DownloadError("wrong SHA-256", where=printable(path), got=found, expected=sha256.lower(), do=do)


def _finish(part: Path, path: Path, url: str, sha256: str | None) -> None:
    """Check the whole file and give it its name; a wrong one is removed, so that no later try builds on it."""
    try:
        if sha256 is not None:
            _check_hash(part, path, url, sha256)
    except DownloadError:
        part.unlink()
        raise
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def _fetch_part(url: str, part: Path, report: Report | None, max_bytes: int, timeout_s: float) -> None:
    """Bring `part` to its full length; a broken connection is taken up again where bytes have come."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _request(url, part, report, max_bytes, timeout_s)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # nothing beyond what we have: the hash decides
                return
            got = f"HTTP {error.code} {printable(error.reason)}"
            raise DownloadError("download refused by the server", where=printable(url), got=got, do=OFFLINE) from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after > before else failures + 1
            if failures >= ATTEMPTS or isinstance(error, urllib.error.URLError):
                got = printable(f"{type(error).__name__}: {error}")[:300]
                raise DownloadError("download failed", where=printable(url), got=got, do=OFFLINE) from error


def _request(url: str, part: Path, report: Report | None, max_bytes: int, timeout_s: float) -> None:
    """One connection: append to `part`, or start it anew where the server does not resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "opsin", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _opener().open(request, timeout=timeout_s) as response:
        if response.status != 206 or not _starts_at(response.headers, have):
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isascii() and length.isdigit() else None
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            while block := response.read(BLOCK_BYTES):
                have += len(block)
                if have > max_bytes:
                    raise DownloadError("the download is too long", where=printable(url), expected=f"{max_bytes} bytes")
                file.write(block)
                if report is not None:
                    report(have, total)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _starts_at(headers: Message, have: int) -> bool:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return match is not None and int(match.group(1)) == have


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects lead to https only; from another machine none leads to this one."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        inwards = urlsplit(newurl).hostname in LOOPBACK and urlsplit(req.full_url).hostname not in LOOPBACK
        if inwards or urlsplit(newurl).scheme == "file":
            raise DownloadError(
                "refused redirect",
                where=printable(req.full_url),
                got=printable(newurl)[:300],
                do="fetch the file by hand",
            )
        _check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_CheckedRedirects)
