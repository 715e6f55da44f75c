"""From an address or an archive to a path on this disk: downloaded and unpacked once, into the cache.

    downloads/KEY/NAME      what lay at an address; KEY is made of the address
    unpacked/KEY/NAME/      what an archive holds; KEY is made of its content

An address is fetched only where the user types it: one that a file names (a run folder, a recipe) is never followed.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from opsin.errors import ArchiveError, DataError, NameTakenError
from opsin.io.archives import extract
from opsin.io.caches import default_cache
from opsin.io.download import fetch
from opsin.io.files import sha256_file
from opsin.progress import QUIET, Reporter
from opsin.text import printable

ARCHIVE_NAME = re.compile(r"\.(?:zip|tar|tgz|tbz2|txz|tar\.(?:gz|bz2|xz))$", re.IGNORECASE)
ADDRESS = re.compile(r"https?://", re.IGNORECASE)
IGNORED = ("__MACOSX", ".DS_Store")


def is_address(source: object) -> bool:
    """Whether a source is an address of the web.

    >>> is_address("https://example.org/photos.zip"), is_address("photos.zip")
    (True, False)
    """
    return isinstance(source, str) and ADDRESS.match(source) is not None


def is_archive(path: Path) -> bool:
    """Whether a path is a file that is named as an archive is."""
    return path.is_file() and ARCHIVE_NAME.search(path.name) is not None


def archive_stem(path: Path) -> str:
    """The name of an archive without its suffix.

    >>> archive_stem(Path("photos.tar.gz"))
    'photos'
    """
    return ARCHIVE_NAME.sub("", path.name) or path.name


def downloaded(address: str, *, typed: bool, report: Reporter = QUIET) -> tuple[Path, str]:
    """The file at an address, in the cache, and a note on where it came from.

    Args:
        address: https, or http of this machine.
        typed: the user typed it just now; otherwise only what is in the cache is taken.
        report: shows progress.

    Raises:
        DataError: it is not in the cache and was not typed.
        DownloadError: no connection, a refused address, or an answer that is no success.
    """
    name = unquote(PurePosixPath(urlsplit(address).path).name)
    safe = re.sub(r"[^\w.-]", "_", name).lstrip(".") or "data"
    key = hashlib.sha256(address.encode()).hexdigest()[:32]
    target = default_cache() / "downloads" / key / safe[-100:]
    if target.is_file():
        return target, f"taken from the cache: {printable(address)} was downloaded before"
    if not typed:
        raise not_followed(address)
    with report.bar(f"fetching {safe}", 1) as bar:

        def arrived(done: int, total: int | None) -> None:
            bar.total = total or done
            bar.at(done)

        fetch(address, target, sha256=None, report=arrived)
    return target, f"downloaded from {printable(address)}, SHA-256 {sha256_file(target)}"


def not_followed(address: str) -> DataError:
    """The refusal of an address that the user has not typed."""
    return DataError(
        "the data were downloaded, and are no longer in the cache; an address that a file names is not followed",
        where=printable(address),
        do=f"fetch them again yourself: opsin data show {printable(address)}",
    )


def unpacked(archive: Path) -> tuple[Path, str]:
    """The folder that an archive holds, in the cache, and a note that says so.

    Folders that hold one folder and nothing else are stepped into.

    Raises:
        ArchiveError: no archive, damaged, or with a member or a size that is refused.
        WriteError: the cache cannot be written.
    """
    folder = default_cache() / "unpacked" / sha256_file(archive)[:32] / archive_stem(archive)
    if not folder.is_dir():
        with suppress(NameTakenError):  # another process has unpacked the same meanwhile
            extract(archive, folder)
    inside, place = _members(folder), folder
    while len(inside) == 1 and inside[0].is_dir():
        place, inside = inside[0], _members(inside[0])
    if not inside:
        raise ArchiveError("the archive holds no files", where=printable(archive))
    return place, f"unpacked from {printable(archive.name)} into the cache"


def _members(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in IGNORED and not path.name.startswith("._")]
