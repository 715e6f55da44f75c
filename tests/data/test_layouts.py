"""The table of layouts: what it promises is there, and each file is parsed once."""

from __future__ import annotations

import gzip
import json
import re
import struct
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from opsin.cli import app
from opsin.data.load import load
from opsin.data.readers import place
from opsin.data.readers.layouts import LAYOUTS, TITLES, help_text, markdown_table
from opsin.errors import DataError
from opsin.io.images import encode_png
from opsin.tasks import task_names

FORMATS = Path(__file__).parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_function_that_the_table_names_is_there(layout) -> None:
    for name in filter(None, (layout.read, layout.seen)):
        module, function = name.split(":")
        assert callable(getattr(import_module(f"opsin.data.readers.{module}"), function))


def test_every_task_has_a_title_and_a_layout() -> None:
    assert {layout.task for layout in LAYOUTS} == set(TITLES) == set(task_names())


def test_names_of_layouts_are_given_once() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


@pytest.mark.parametrize("task", TITLES)
def test_the_page_on_formats_shows_the_table(task: str) -> None:
    shown = re.search(rf"<!-- layouts: {task} -->\n(.*?)\n<!-- end -->", FORMATS.read_text("utf-8"), re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == markdown_table(task)


def test_help_and_the_refusal_of_an_unknown_file_name_the_layouts(tmp_path: Path) -> None:
    assert all(layout.name in help_text() for layout in LAYOUTS)
    file = tmp_path / "notes.docx"
    file.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"\.npz") as caught:
        load(file)
    assert "opsin data layouts" in str(caught.value)


def test_the_command_line_lists_the_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    app(["data", "layouts", "--json"], exit_on_error=False, result_action="return_value")
    shown = json.loads(capsys.readouterr().out)["layouts"]
    assert [row["name"] for row in shown] == [layout.name for layout in LAYOUTS]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("path,label", "a"),
        ("path,label,xmin,ymin,xmax,ymax", "a,1,1,9,9"),
        ("path,value", "1.5"),
        ("path,label", "a;b"),
    ],
)
def test_a_table_is_parsed_once_whatever_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, value: str
) -> None:
    values = [value, value.replace("a", "c")]
    rows = []
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (3, 12, 12)).astype(np.uint8)
        (tmp_path / f"{i}.png").write_bytes(encode_png(pixels))
        rows.append(f"{i}.png,{values[i % 2]}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join([header, *rows]))
    parsed: list[object] = []
    read = place.read_table
    monkeypatch.setattr(place, "read_table", lambda path: parsed.append(path) or read(path))
    load(table)
    assert parsed == [table]


def test_a_folder_of_mnists_files_is_recognized(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", 40), ("t10k", 10)):
        pixels = rng.integers(0, 255, (count, 6, 5)).astype(np.uint8)
        images = b"\0\0\x08\x03" + struct.pack(">3I", count, 6, 5) + pixels.tobytes()
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        labels = bytes(i % 2 for i in range(count))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", count) + labels)
    found = load(tmp_path)
    assert (found.task, found.classes, found.layout) == ("classify", ("0", "1"), "IDX files")
    assert {split: len(source) for split, source in found.splits.items()}["test"] == 10


def test_a_folder_of_cifars_binaries_is_recognized(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        records = [bytes([label]) + rng.integers(0, 255, 3072).astype(np.uint8).tobytes() for label in range(10)]
        (tmp_path / f"{name}.bin").write_bytes(b"".join(records))
    found = load(tmp_path)
    assert (found.task, found.classes[0], found.size) == ("classify", "airplane", (32, 32))
