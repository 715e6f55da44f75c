"""The files of a run folder, read into records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from opsin.errors import AnnotationError, RunError
from opsin.io.arrays import read_npz
from opsin.io.files import read_json
from opsin.runs.codec import damaged, from_json
from opsin.runs.records import VERSION, DataCard, SplitScores
from opsin.types import JsonDict

T = TypeVar("T")
Arrays = Mapping[str, np.ndarray]

CONFIG, DATA, ENVIRONMENT, SUMMARY = "config.json", "data.json", "environment.json", "summary.json"
SCORES, PREDICTIONS, GALLERY, WEIGHTS = "scores.json", "predictions.npz", "gallery.npz", "weights.json"
"""Names of the files."""


def read_object(path: Path) -> dict[str, object]:
    """The object in a JSON file; empty where there is none.

    Raises:
        RunError: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        values = read_json(path)
    except AnnotationError as error:
        got = error.what if error.got is None else f"{error.what}: {error.got}"
        raise damaged(path, got, "a JSON object") from error
    if not isinstance(values, dict):
        raise damaged(path, values, "an object")
    return values


def read_extra(folder: Path, file: str) -> JsonDict:
    """A JSON file that another verb wrote into the run in `folder`; empty if there is none.

    Raises:
        RunError: it does not contain an object.
    """
    return read_object(folder / file)


def read_record(path: Path, kind: type[T]) -> T:
    """The record in a JSON file; an empty record if there is none.

    Raises:
        RunError: it is damaged.
    """
    return from_json(kind, read_object(path), str(path))


def read_data(path: Path) -> DataCard:
    """The description of a run's data.

    Raises:
        RunError: it is damaged, or a newer Opsin wrote the run.
    """
    values = read_object(path)
    version = values.get("version", VERSION)
    if isinstance(version, int) and version > VERSION:
        raise RunError("a newer Opsin wrote this run", where=path, got=version, expected=VERSION, do="update Opsin")
    return from_json(DataCard, values, str(path))


def read_scores(path: Path) -> dict[str, SplitScores]:
    """Scores by split, in the order in which they were written; empty where there are none.

    Raises:
        RunError: they are damaged.
    """
    return {split: from_json(SplitScores, entry, f"{path}: {split}") for split, entry in read_object(path).items()}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; empty where there is none.

    Raises:
        ArrayError: it is damaged.
    """
    return read_npz(path) if path.is_file() else {}


def read_gallery(folder: Path) -> dict[str, np.ndarray]:
    """Thumbnails of the run in `folder`, uint8: samples, augmented samples, mistakes.

    Raises:
        ArrayError: they are damaged.
    """
    return read_arrays(folder / GALLERY)
