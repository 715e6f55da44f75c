"""The data set of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opsin.errors import DataError
from opsin.runs.folder import Run

if TYPE_CHECKING:
    from opsin.data.samples import Dataset

ARRAYS = "arrays"
"""Source of a data set of arrays; that of others is a path, an address or a name of the catalogue."""


def dataset_of(run: Run, root: Path | str | None = None) -> Dataset:
    """The data set that a run was trained on, unchanged.

    Args:
        run: the run.
        root: folder of the catalogue's data sets; None takes the run's.

    Raises:
        DataError: it is missing, was in memory, or has changed: its splits may now contain other samples.
    """
    from opsin.data.load import load  # here, because reading a run need not import torch

    config, expected = run.config, run.data.fingerprint
    if config.source == ARRAYS:
        what = "the run was trained on arrays in memory, and a run folder keeps no images"
        do = "from Python give the data set again: `opsin.evaluate(run, data=…)`"
        raise DataError(what, where=run.path, do=do)
    found = load(config.source, root=root or config.root, config=config.data, task=run.task, typed=False)
    if (got := found.fingerprint()) != expected:
        what = "the data set has changed since the run was trained on it; its val may now contain training samples"
        do = "restore the data; `--data` scores a copy as another data set"
        raise DataError(what, where=found.root or config.source, got=got, expected=expected, do=do)
    return found
