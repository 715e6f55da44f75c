"""Class folders and tables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opsin.data.load import load
from opsin.data.readers.folders import read_pool
from opsin.errors import DataError, InputError


def table(root: Path, rows: list[str], header: str = "path,label") -> Path:
    file = root / "table.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def test_class_folders_are_sorted_naturally_and_split(photos) -> None:
    data = load(photos({"10": 10, "2": 10, "1": 10}))
    assert data.classes == ("1", "2", "10")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 24, "val": 3, "test": 3}
    for split in data.splits.values():
        assert split.labels is not None
        assert [data.classes[label] for label in split.labels] == [name.split("/")[0] for name in split.ids]


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_split_folders_are_used_as_they_are(photos, val: str) -> None:
    data = load(photos({"train/a": 3, "train/b": 3, f"{val}/a": 1, f"{val}/b": 1, "test/b": 2}))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6, "val": 2, "test": 2}
    assert data.splits["test"].labels is not None
    assert data.splits["test"].labels.tolist() == [1, 1]
    assert data.splits["test"].ids[0] == "test/b/0.png"


def test_val_is_drawn_where_only_train_and_test_exist(photos) -> None:
    data = load(photos({"train/a": 10, "train/b": 10, "test/a": 1, "test/b": 1}))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 18, "val": 2, "test": 2}


def test_other_files_are_left_out_and_counted(photos) -> None:
    root = photos({"a": 5, "b": 5})
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "loose.png").write_bytes((root / "a" / "0.png").read_bytes())
    notes = " ".join(load(root).notes)
    assert "1 files that are not images of a known format were ignored: 1 .db" in notes
    assert "1 images outside of any class folder" in notes


def test_an_empty_class_is_refused_by_name(photos) -> None:
    root = photos({"a": 5, "b": 5})
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="empty: empty"):
        load(root)


def test_a_class_that_train_lacks_is_refused_and_one_that_val_lacks_is_not(photos) -> None:
    assert load(photos({"train/a": 2, "train/b": 2, "val/a": 2}, name="x")).classes == ("a", "b")
    with pytest.raises(DataError, match="no training sample"):
        load(photos({"train/a": 2, "val/a": 2, "val/b": 2}, name="y"))


def test_one_class_no_class_and_no_image_are_refused(photos, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only one class"):
        load(photos({"a": 20}, name="one"))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        load(tmp_path / "none")
    (tmp_path / "bare" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="no images"):
        load(tmp_path / "bare")


def test_folders_that_could_be_classes_or_splits_are_refused(photos) -> None:
    with pytest.raises(DataError, match="split folders are next to"):
        load(photos({"train/a": 2, "train/b": 2, "cats": 2}, name="x"))
    with pytest.raises(DataError, match="two folders name the split `val`"):
        load(photos({"train/a": 2, "val/a": 2, "valid/a": 2}, name="y"))


def test_a_link_out_of_the_folder_is_refused_and_a_loop_ends(photos, tmp_path: Path) -> None:
    root = photos({"a": 5, "b": 5})
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    assert len(load(root).splits) == 3
    (tmp_path / "secret.png").write_bytes((root / "a" / "0.png").read_bytes())
    (root / "a" / "out.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="leads out"):
        load(root)


def test_a_pipe_is_reported_and_not_opened(photos) -> None:
    root = photos({"a": 5, "b": 5})
    os.mkfifo(root / "a" / "pipe.png")
    assert "pipe.png" in " ".join(load(root).notes)


def test_a_table_gives_paths_labels_and_splits(photos) -> None:
    root = photos({"x": 8})
    rows = [f"x/{i}.png,{'10' if i % 2 else '9'},{['train', 'train', 'valid', 'test'][i // 2]}" for i in range(8)]
    data = load(table(root, rows, "path,label,split"))
    assert data.classes == ("9", "10")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 4, "val": 2, "test": 2}
    assert data.splits["val"].ids == ["x/4.png", "x/5.png"]


def test_groups_stay_whole_when_drawn_and_are_refused_in_two_given_splits(photos) -> None:
    root = photos({"x": 40})
    rows = [f"x/{i}.png,{i % 2},patient{i // 4}" for i in range(40)]
    data = load(table(root, rows, "path,label,group"))
    seen = [set(split.groups or ()) for split in data.splits.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 10
    rows = [f"x/{i}.png,{i % 2},{'train' if i < 20 else 'test'},patient{i % 3}" for i in range(40)]
    with pytest.raises(DataError, match="more than one split"):
        load(table(root, rows, "path,label,split,group"))


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path,labl", ["x/0.png,a"], "did you mean `label`"),
        ("path,label", [], "without rows"),
        ("path,label", ["x/0.png,a", "x/1.png,"], "lines 3"),
        ("path,label", ["x/0.png,a", "x/9.png,b"], "x/9.png"),
        ("path,label", ["x/0.png,a", "x/0.png,b"], "more than once"),
        ("path,label,split", ["x/0.png,a,train", "x/1.png,b,holdout"], "unknown splits"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(photos, header: str, rows: list[str], message: str) -> None:
    with pytest.raises((DataError, InputError), match=message):
        load(table(photos({"x": 2}), rows, header))


@pytest.mark.parametrize(
    ("header", "what", "do"),
    [
        ("path,label,note", "unknown columns", "remove note"),
        ("file,kind", "required columns are missing", "path, label is missing"),
        ("path,lable", "required columns are missing", "`label`"),
    ],
)
def test_a_table_with_other_columns_is_refused_with_what_to_change(
    header: str, what: str, do: str, tmp_path: Path
) -> None:
    file = tmp_path / "table.csv"
    file.write_text(f"{header}\n{','.join('a' for _ in header.split(','))}\n")
    with pytest.raises(DataError, match=what) as caught:
        load(file)
    assert do in str(caught.value.do)


def test_hidden_files_are_left_out_of_published_sets_too(photos) -> None:
    root = photos({"a": 2, "b": 1})
    (root / ".ipynb_checkpoints").mkdir()
    for name in (".ipynb_checkpoints/1.png", "a/.png"):
        (root / name).write_bytes((root / "b/0.png").read_bytes())
    assert list(read_pool(root).ids) == ["a/0.png", "a/1.png", "b/0.png"]
