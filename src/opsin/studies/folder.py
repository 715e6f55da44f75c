"""The folder of a study: the request, and a run folder for each training.

A study called again with its name continues: finished runs are kept, an interrupted one is resumed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opsin import config as settings_of
from opsin.config import RunConfig
from opsin.data.samples import Dataset
from opsin.errors import InterruptedRunError, NameTakenError, RunError
from opsin.io.files import as_json, atomic_folder, read_json, write_json
from opsin.runs import Run, free_path, next_name
from opsin.training.engine.hooks import Callback
from opsin.training.request import Request
from opsin.training.session import carry_out
from opsin.types import JsonDict, JsonMapping

ABOUT = "study.json"
"""The request of the study; the last file of a new folder."""


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """A study on disk.

    `about` is its original request, as plain JSON.
    """

    path: Path
    about: JsonMapping

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.path.name


def open_study(kind: str, *, name: str | None, stem: str, out: Path | str, about: JsonMapping) -> StudyFolder:
    """The study `name` in `out`: a new one, or an existing one with the same request.

    Args:
        kind: kind of study.
        name: None takes the next free one.
        stem: stem of the next free name.
        out: folder of run folders, and of studies beside them.
        about: the request, as plain JSON.

    Raises:
        RunError: the name is taken by a run or another study, or is not a plain file name.
    """
    asked = as_json({"kind": kind, **about})
    path = Path(out) / (name or next_name(stem, out))
    if not (path / ABOUT).is_file():
        free_path(path.name, out)
        try:
            with atomic_folder(path) as folder:
                write_json(folder / ABOUT, asked)
        except NameTakenError:  # another process started the same study meanwhile
            if not (path / ABOUT).is_file():
                raise
    stored = read_json(path / ABOUT)
    stored = stored if isinstance(stored, dict) else {}
    if changed := [key for key in {**asked, **stored} if asked.get(key) != stored.get(key)]:
        raise RunError(
            "a study of this name exists, with another request",
            where=path,
            got=", ".join(f"{key}: {asked.get(key)}" for key in changed),
            expected=", ".join(f"{key}: {stored.get(key)}" for key in changed),
            do="repeat its command to continue it, or give another --name",
        )
    return StudyFolder(path=path, about=stored)


def pinned(config: RunConfig) -> JsonDict:
    """All settings of a run as one flat layer: a run with them makes no automatic choices."""
    names = settings_of.setting_names()
    return {key: value for key, value in settings_of.flat(config).items() if key in names}


def finished(path: Path) -> Run | None:
    """The run at `path` if it has finished; scores are written last."""
    if not (path / "config.json").is_file():
        return None
    run = Run(path)
    return run if run.scores else None


def trained(
    folder: Path,
    name: str,
    data: Dataset,
    settings: Mapping[str, Any],
    *,
    root: Path | str | None,
    command: str,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """The run `name` in `folder`: unchanged if it has finished, resumed if interrupted, else trained.

    Raises:
        InterruptedRunError: stopped by the user.
        DivergedError: the loss or a gradient is not finite.
    """
    if (done := finished(folder / name)) is not None:
        return done
    resume = (folder / name / "config.json").is_file()
    layer = {} if resume else dict(settings)
    asked = Request(root=root, name=name, out=folder, quiet=True, command=command, callbacks=callbacks)
    try:
        return carry_out(data, replace(asked, resume=resume, settings=layer))
    except InterruptedRunError as error:
        do = "the same command, with `--name`, continues it"
        raise InterruptedRunError("the study was stopped", where=folder, do=do) from error


def relative(path: Path, start: Path) -> str:
    """The relative address of a file from a page in `start`."""
    return Path(os.path.relpath(path, start)).as_posix()
