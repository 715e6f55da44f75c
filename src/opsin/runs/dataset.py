"""The data set of a run, as it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opsin.errors import DataError
from opsin.runs.folder import Run

if TYPE_CHECKING:
    from opsin.data.samples import Dataset


def dataset_of(run: Run, root: Path | str | None = None) -> Dataset:
    """The data set that a run was trained on, unchanged.

    Args:
        run: the run.
        root: where catalogue sets lie; None takes the run's.

    Raises:
        DataError: it is not there, or it has changed: its splits may hold other samples now.
    """
    from opsin.data.load import load  # here, because reading a run should not import torch

    config, expected = run.config, run.data.fingerprint
    found = load(config.source, root=root or config.root, config=config.data, task=run.task, typed=False)
    if (got := found.fingerprint()) != expected:
        what = "the data set has changed since the run was trained on it; its val may hold what was train then"
        do = "put the data back as it was; `--data` scores a copy as another data set"
        raise DataError(what, where=found.root or config.source, got=got, expected=expected, do=do)
    return found
