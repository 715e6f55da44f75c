"""A run on the Hugging Face hub: a folder of model card, artefact and export, sent by the hub's own client."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from opsin.errors import ConfigError, InputError, NameTakenError, RefusedError
from opsin.exports.model_card import model_card
from opsin.io.files import atomic_folder, write_atomically
from opsin.runs import Run
from opsin.text import printable

ENDPOINT: str | None = None
"""Address of the hub; None is that of huggingface_hub (or its variable HF_ENDPOINT)."""
NAME = re.compile(r"hf://(?P<name>\w[\w.-]*/\w[\w.-]*)")


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was pushed, or would be.

    `address`: on the hub. `files`: below the folder. `folder`: where a dry run left it, else None.
    """

    address: str
    files: tuple[str, ...]
    folder: str | None = None

    def to_json(self) -> dict[str, object]:
        """As plain JSON."""
        return asdict(self)


def push_run(run: Run, to: str, *, export: Path | None, public: bool, dry_run: Path | None) -> Pushed:
    """Push a run, or write the folder that would be pushed.

    Args:
        to: `hf://owner/name`.
        export: folder of `opsin export`, to be pushed too.
        public: anybody may see it; otherwise the owner alone.
        dry_run: a new folder; nothing is sent.

    Raises:
        ConfigError: no such name can be, or huggingface_hub is missing.
        InputError: `export` is no folder of an export.
        RefusedError: the hub refuses, or cannot be reached.
        WriteError: the folder exists, or cannot be written.
    """
    found = NAME.fullmatch(to)
    if found is None:
        raise ConfigError("not a name of a model on the hub", got=printable(to), expected="hf://owner/name")
    if export is not None and not (export / "contract.json").is_file():
        raise InputError("not a folder of an export", where=export, do=f"opsin export {run.name}")
    name = found["name"]
    if dry_run is not None:
        if dry_run.exists():
            raise NameTakenError("the folder exists already", where=printable(dry_run), do="remove it, or name another")
        with atomic_folder(dry_run) as folder:
            files = _fill(folder, run, name, export)
        return Pushed(address=to, files=files, folder=str(dry_run))
    if find_spec("huggingface_hub") is None:
        raise ConfigError("the extra `hf` is missing to push to the hub", got=to, do="pip install 'opsin[hf]'")
    return _send(run, name, export, public=public)


def _fill(folder: Path, run: Run, name: str, export: Path | None) -> tuple[str, ...]:
    """Fill the folder to be pushed; its files, in order."""
    write_atomically(folder / "README.md", model_card(run, name, has_export=export is not None).encode())
    shutil.copytree(run.model_folder, folder / "model")
    if export is not None:
        shutil.copytree(export, folder / "export")
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))


def _send(run: Run, name: str, export: Path | None, *, public: bool) -> Pushed:
    import tempfile

    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = _fill(folder, run, name, export)
        try:
            api = HfApi(endpoint=ENDPOINT)
            made = api.create_repo(name, private=not public, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"opsin push {run.name}")
        except Exception as error:  # of many kinds; some are `OSError`, which would pass for a full disk
            got = printable(f"{type(error).__name__}: {error}".splitlines()[0])[:300]
            do = "check the name and the network; `hf auth login` with a token that may write"
            raise RefusedError("the hub did not take the run", where=f"hf://{name}", got=got, do=do) from error
    return Pushed(address=str(made), files=files)
