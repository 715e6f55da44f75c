"""Downloading the files of a catalogue set from its publisher: only files with a known SHA-256, and only on request."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from opsin.data.catalogue import Download, Entry, how_to_get
from opsin.errors import ArchiveError, DataError
from opsin.io.archives import extract
from opsin.io.download import fetch

Report = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes so far, and the total bytes or None."""


def fetch_entry(entry: Entry, root: Path, *, report: Report | None = None) -> Path | None:
    """Fetch and unpack a catalogue set under `root`; existing files are kept.

    Returns:
        The folder of the set, or None for a set that needs no files.

    Raises:
        DataError: the hash of a file is unknown, so it has to be fetched by hand.
        DownloadError: a download failed or does not match its hash.
        ArchiveError: an archive is damaged or lays out other folders than expected.
    """
    if not entry.folder:
        return None
    unknown = [file.url for file in entry.files if file.sha256 is None]
    if unknown or not entry.files:
        raise DataError(
            f"`{entry.name}` cannot be fetched: the SHA-256 of its files is not known here",
            where=", ".join(unknown),
            do=how_to_get(entry, root),
        )
    for file in entry.files:
        if not (root / (file.unpack or file.target)).exists():
            _fetch_file(file, root, report)
    return root / entry.folder


def _fetch_file(file: Download, root: Path, report: Report | None) -> None:
    def bytes_arrived(done: int, total: int | None) -> None:
        if report is not None:
            report(Path(file.target).name, done, total or file.num_bytes)

    assert file.sha256 is not None  # checked by the caller
    archive = fetch(file.url, root / file.target, sha256=file.sha256, report=bytes_arrived)
    if file.unpack is not None:
        _unpack(archive, root, file.unpack)


def _unpack(archive: Path, root: Path, folder: str) -> None:
    """Unpack beside the target first: the folder gets its name when it is whole."""
    unpacked = root / f".{folder}.unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        extract(archive, unpacked)
        if not (unpacked / folder).is_dir():
            raise ArchiveError(
                "the archive does not contain the folder of the data set",
                where=archive,
                expected=folder,
                do="remove the archive and fetch it again",
            )
        (unpacked / folder).replace(root / folder)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
