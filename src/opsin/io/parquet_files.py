"""Parquet from outside: images as bytes with their labels, as Hugging Face's data sets store them. Needs pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from opsin.errors import AnnotationError
from opsin.io.files import PathLike
from opsin.io.gate import MEBIBYTE, open_regular, printable, refusing

IMAGE_COLUMNS = ("image", "img", "images")
LABEL_COLUMNS = ("label", "labels", "class", "fine_label")
ROWS_AT_ONCE = 64
MAX_ROWS = 10_000_000
MAX_IMAGE_BYTES = 256 * MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """One row. `data`: the bytes of an image file; `label`: the name of its class."""

    data: bytes
    label: str


def read_stored_images(path: PathLike) -> Iterator[StoredImage]:
    """The rows of a Parquet file, a few at a time.

    Numbers of classes become names where the file holds them (Hugging Face's `ClassLabel`).

    Raises:
        AnnotationError: pyarrow is missing; no Parquet, damaged, or without images and labels.
    """
    if find_spec("pyarrow") is None:
        do = "pip install 'opsin[parquet]'"
        raise AnnotationError("a Parquet file: the extra `parquet` is missing to read it", where=printable(path), do=do)
    with (
        open_regular(path, AnnotationError) as (file, _),
        refusing(AnnotationError, path, "not a readable Parquet file"),
    ):
        from pyarrow import parquet

        stored = parquet.ParquetFile(file)
        schema = stored.schema_arrow
        image, label = _column(schema.names, IMAGE_COLUMNS, path), _column(schema.names, LABEL_COLUMNS, path)
        names = _class_names(schema.metadata, label)
        if stored.metadata.num_rows > MAX_ROWS:
            raise ValueError(f"{stored.metadata.num_rows:,} rows, at most {MAX_ROWS:,}")
        row = 0
        for batch in stored.iter_batches(batch_size=ROWS_AT_ONCE, columns=[image, label]):
            for picture, value in zip(batch[image], batch[label], strict=True):
                yield _stored(picture.as_py(), value.as_py(), names, f"{printable(path)}, row {row}")
                row += 1


def _column(columns: Sequence[str], known: Sequence[str], path: PathLike) -> str:
    found = next((name for name in known if name in columns), None)
    if found is None:
        raise AnnotationError(
            "required columns are missing",
            where=printable(path),
            got=printable(", ".join(columns))[:300],
            expected=f"one of {', '.join(known)}",
        )
    return found


def _class_names(metadata: Mapping[bytes, bytes] | None, label: str) -> list[str]:
    """Names of classes that the file holds in Hugging Face's description; none where it holds none."""
    with suppress(KeyError, TypeError, ValueError):
        about = json.loads((metadata or {})[b"huggingface"])
        return [str(name) for name in about["info"]["features"][label]["names"]]
    return []


def _stored(picture: Any, value: Any, names: Sequence[str], where: str) -> StoredImage:
    data = picture.get("bytes") if isinstance(picture, Mapping) else picture
    if not isinstance(data, bytes) or not 0 < len(data) <= MAX_IMAGE_BYTES:
        raise AnnotationError("a row without the bytes of an image", where=where, expected="bytes, or bytes and path")
    if isinstance(value, bool) or not isinstance(value, int | str) or (names and isinstance(value, str)):
        raise AnnotationError(
            "a row without a class", where=where, got=printable(value)[:100], expected="a name or number"
        )
    if isinstance(value, int) and names:
        if not 0 <= value < len(names):
            raise AnnotationError("a class without a name", where=where, got=value, expected=f"0 to {len(names) - 1}")
        value = names[value]
    return StoredImage(data=data, label=str(value))
