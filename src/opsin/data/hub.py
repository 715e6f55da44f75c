"""Data sets of the Hugging Face hub: `hf://name@revision`, fetched whole into the cache. Needs huggingface_hub.

No code of a data set is fetched or run: files of images, tables and archives alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from opsin.data.transport import not_followed
from opsin.errors import DataError, DownloadError, InputError, NameTakenError, OpsinError
from opsin.io.caches import default_cache
from opsin.io.download import MAX_DOWNLOAD_BYTES
from opsin.io.files import atomic_folder, read_json, write_json
from opsin.io.images import IMAGE_SUFFIXES
from opsin.progress import QUIET, Reporter
from opsin.text import printable

PREFIX = "hf://"
ENDPOINT: str | None = None
"""Address of the hub; None is that of huggingface_hub (or its variable HF_ENDPOINT)."""
NAME = re.compile(r"hf://(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(?P<revision>\w[\w./-]*))?")
COMMIT = "commit.json"
"""Beside the folder of a data set: the address that was typed, and the commit that the hub gave for it."""
FETCHED = (".parquet", ".csv", ".json", ".txt", ".tar", ".npy", ".npz", ".xml", ".yaml", *sorted(IMAGE_SUFFIXES))


def is_hub_name(source: object) -> bool:
    """Whether a source is a data set of the hub.

    >>> is_hub_name("hf://cifar10@main"), is_hub_name("cifar10")
    (True, False)
    """
    return isinstance(source, str) and source.startswith(PREFIX)


def snapshot(address: str, *, typed: bool, report: Reporter = QUIET) -> tuple[Path, str]:
    """The folder of a data set of the hub, in the cache, and a note that says which commit it is.

    Args:
        address: `hf://name@revision`; the revision is a branch, a tag or a commit, `main` by default.
        typed: the user typed it just now; otherwise only what is in the cache is taken.
        report: shows that it is being fetched.

    Raises:
        DataError: no such name can be, or it is not in the cache and was not typed, or huggingface_hub is missing.
        DownloadError: the hub refuses it or cannot be reached.
    """
    found = NAME.fullmatch(address)
    if found is None:
        raise DataError("not a name of a data set", where=printable(address), expected="hf://owner/name@revision")
    name = found["name"]
    folder = default_cache() / "downloads" / hashlib.sha256(address.encode()).hexdigest()[:32] / name.rpartition("/")[2]
    if folder.is_dir():
        return folder, f"taken from the cache: {address}{_commit_note(folder)} was downloaded before"
    if not typed:
        raise not_followed(address)
    if find_spec("huggingface_hub") is None:
        do = "pip install 'opsin[hf]'"
        raise DataError("a data set of the hub: the extra `hf` is missing to fetch it", where=address, do=do)
    with suppress(NameTakenError), report.bar(f"fetching {name}", 1):
        _fetch(name, found["revision"], folder, address)
    return folder, f"downloaded from {address}{_commit_note(folder)}"


def _fetch(name: str, revision: str | None, folder: Path, address: str) -> None:
    """Fetch the files of one commit, and record which; the folder appears whole or not at all."""
    from huggingface_hub import HfApi

    with atomic_folder(folder) as new, _refusing(address):
        api = HfApi(endpoint=ENDPOINT)
        found = api.dataset_info(name, revision=revision, files_metadata=True)
        wanted = {file.rfilename: file.size for file in found.siblings or () if file.rfilename.endswith(FETCHED)}
        _check_length(sum(size or 0 for size in wanted.values()), address)
        api.snapshot_download(
            name, repo_type="dataset", revision=found.sha, local_dir=new, allow_patterns=[f"*{end}" for end in FETCHED]
        )
        _check_length(sum(path.stat().st_size for path in new.rglob("*") if path.is_file()), address)
        write_json(folder.parent / COMMIT, {"address": address, "commit": found.sha})


def _check_length(num_bytes: int, address: str) -> None:
    """Refuse a data set of more bytes than a download may have.

    Raises:
        DownloadError: it has.
    """
    if num_bytes > MAX_DOWNLOAD_BYTES:
        most = f"at most {MAX_DOWNLOAD_BYTES:,} bytes"
        do = "fetch the files that are needed with `hf download`, and give their folder"
        raise DownloadError("the download is too long", where=address, got=f"{num_bytes:,} bytes", expected=most, do=do)


def _commit_note(folder: Path) -> str:
    """Which commit a fetched folder is, in words; empty where it was not recorded."""
    with suppress(InputError, OSError, KeyError, TypeError):
        return f" (commit {printable(str(read_json(folder.parent / COMMIT)['commit']))[:64]})"
    return ""


@contextmanager
def _refusing(address: str) -> Iterator[None]:
    """Turn the many errors of the hub's client into one; some are `OSError`, which would pass for a full disk."""
    try:
        yield
    except OpsinError:
        raise
    except Exception as error:
        got = printable(f"{type(error).__name__}: {error}".splitlines()[0])[:300]
        do = "check the name, the revision and the network; private data sets need `hf auth login`"
        raise DownloadError("the data set cannot be fetched from the hub", where=address, got=got, do=do) from error
