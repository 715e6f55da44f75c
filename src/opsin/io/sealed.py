"""JSON files with a seal, the SHA-256 of their value: what a cache holds is as it was written, or made again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from opsin.errors import AnnotationError
from opsin.io.files import PathLike, read_json, write_json
from opsin.text import printable


def write_sealed_json(path: PathLike, value: object) -> None:
    """Write a JSON file with the SHA-256 of its value, so that damage to it is noticed.

    Raises:
        WriteError: as `write_json`.
    """
    write_json(path, {"value": value, "sha256": _seal(value)})


def read_sealed_json(path: PathLike) -> Any:
    """The value of a file that `write_sealed_json` wrote.

    Raises:
        AnnotationError: as `read_json`; or it is not as it was written.
    """
    found = read_json(path)
    value = found.get("value") if isinstance(found, dict) else None
    if value is None or found.get("sha256") != _seal(value):
        raise AnnotationError("the file is damaged", where=printable(path), do="remove it: it is made again")
    return value


def _seal(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
