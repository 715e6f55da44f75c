"""Parquet files with images as bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opsin.data.load import load
from opsin.errors import AnnotationError, DataError, OpsinError
from opsin.io import parquet_files
from opsin.io.images import encode_png
from opsin.io.parquet_files import read_stored_images

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

NAMES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, count: int = 12, *, seed: int = 0, names: list[str] | None = NAMES, **columns: list) -> Path:
    """A file as Hugging Face's data sets have it; `columns` replace or add columns."""
    rng = np.random.default_rng(seed)
    photos = [encode_png(rng.integers(0, 255, (3, 12, 12)).astype(np.uint8)) for _ in range(count)]
    given = {
        "image": [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(photos)],
        "label": [i % 2 for i in range(count)],
    } | columns
    table = pa.table({name: values for name, values in given.items() if values is not None})
    if names is not None:
        feature = {"names": names, "_type": "ClassLabel"}
        about = json.dumps({"info": {"features": {"image": {"_type": "Image"}, "label": feature}}})
        table = table.replace_schema_metadata({"huggingface": about})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def test_a_folder_as_hugging_face_has_it_is_read_by_split(tmp_path: Path) -> None:
    for seed, (split, count) in enumerate({"train": 12, "validation": 6, "test": 4}.items()):
        write(tmp_path / "pets" / "data" / f"{split}-00000-of-00001.parquet", count, seed=seed)
    found = load(tmp_path / "pets")
    assert (found.name, found.classes) == ("pets", ("cat", "dog"))
    assert {split: len(source) for split, source in found.splits.items()} == {"train": 12, "val": 6, "test": 4}
    assert found.splits["train"].image(0).shape == (3, 12, 12)
    assert found.splits["train"].ids[0] == "train-00000-of-00001/0000000"


def test_a_file_alone_is_undivided_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "train.parquet", 24)
    first = load(file)
    assert sum(len(source) for source in first.splits.values()) == 24
    monkeypatch.setattr("opsin.data.readers.parquet_sets.read_stored_images", None)
    assert load(file).fingerprint() == first.fingerprint()


def test_labels_may_be_texts_and_images_plain_bytes(tmp_path: Path) -> None:
    data = encode_png(np.zeros((3, 4, 4), np.uint8))
    file = write(tmp_path / "a.parquet", 2, names=None, image=[data, data], label=["b", "a"])
    assert [(row.data == data, row.label) for row in read_stored_images(file)] == [(True, "b"), (True, "a")]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image": None}, "required columns"),
        ({"label": None}, "required columns"),
        ({"label": [0, 7]}, "row 1"),
        ({"label": [0, None]}, "row 1"),
        ({"label": [0.5, 1.5]}, "row 0"),
        ({"image": [{"bytes": None, "path": "a.png"}] * 2}, "row 0"),
        ({"image": ["a.png", "b.png"]}, "row 0"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, cache: Path, columns: dict, said: str) -> None:
    file = write(tmp_path / "a.parquet", 2, **columns)
    with pytest.raises(AnnotationError, match=said):
        load(file)
    assert not list(cache.glob("unpacked/*/*"))


def test_files_with_and_without_a_split_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "pets/train.parquet")
    write(tmp_path / "pets/more.parquet", seed=1)
    with pytest.raises(DataError, match="more"):
        load(tmp_path / "pets")


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_files, "find_spec", lambda name: None)
    with pytest.raises(AnnotationError, match=r"opsin\[parquet\]"):
        load(file)


@pytest.mark.parametrize("seed", range(60))
def test_cut_and_garbled_files_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = write(tmp_path / "a.parquet", 4).read_bytes()
    data = bytearray(whole[: rng.integers(1, len(whole))] if seed % 3 == 0 else whole)
    for place in rng.integers(0, len(data), 1 + seed % 8):
        data[place] = rng.integers(0, 256)
    (tmp_path / "a.parquet").write_bytes(bytes(data))
    try:
        rows = list(read_stored_images(tmp_path / "a.parquet"))
    except OpsinError as error:
        assert "a.parquet" in str(error)  # noqa: PT017
    else:
        assert len(rows) <= 4
