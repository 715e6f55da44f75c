"""From a name or a path to a data set."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import opsin
from opsin.config import DataConfig
from opsin.data import file_facts
from opsin.data.load import load
from opsin.data.quality import copies
from opsin.data.samples import Dataset
from opsin.errors import ConfigError, DataError
from opsin.io.images import encode_png


def test_digits_need_no_files_and_are_scaled_to_bytes() -> None:
    data = opsin.load("digits")
    images = np.concatenate([data.splits[name].image(i) for name in data.splits for i in range(50)])
    assert sum(len(split) for split in data.splits.values()) == 1797
    assert (images.min(), images.max()) == (0, 255)
    assert (data.size, data.channels, data.classes[3]) == ((8, 8), 1, "3")


def test_digits_equal_scikit_learns_times_255_over_16() -> None:
    from sklearn.datasets import load_digits

    data = load("digits", drawn=False)
    expected = load_digits()
    for i in (0, 17, 1796):
        np.testing.assert_array_equal(data.splits["test"].image(i)[0], np.round(expected.images[i] * 255 / 16))


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(DataError, match="did you mean `mnist`"):
        load("mnits")


def test_a_missing_set_says_where_it_was_sought_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPSIN_DATA", raising=False)
    with pytest.raises(DataError, match="OPSIN_DATA"):
        load("mnist")
    monkeypatch.setenv("OPSIN_DATA", str(tmp_path))
    with pytest.raises(DataError, match="opsin data fetch mnist") as caught:
        load("mnist")
    assert caught.value.where == tmp_path / "MNIST/raw"


def test_another_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not fit this task"):
        load("digits", task="segment")


def test_a_label_level_is_for_sets_that_have_several() -> None:
    with pytest.raises(ConfigError, match="label level"):
        load("digits", config=DataConfig(label_level="fine"))


def test_unused_classes_are_outputs_that_no_image_asks_for(tmp_path: Path) -> None:
    options = {"subset": "train=1000,test=50", "unused_classes": 5, "model": "dense", "epochs": 4, "lr": 0.003}
    run = opsin.train("digits", out=tmp_path, quiet=True, report=False, **options)
    assert run.predictions("val")["probabilities"].shape[1] == 15
    assert run.scores["val"]["accuracy"].value > 0.5
    assert opsin.load("digits", config=DataConfig(unused_classes=2)).classes[-2:] == ("unused 1", "unused 2")
    with pytest.raises(ConfigError, match="one class each"):
        opsin.load("digit_scenes", config=DataConfig(unused_classes=1, scenes=400, scene_digits="digits"))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot read this file as a data set"):
        load(tmp_path / "x.pkl")


def test_a_subset_of_drawn_splits_is_taken_after_the_draw() -> None:
    whole = load("digits")
    part = load("digits", config=DataConfig(subset="train=100,test=20"))
    assert list(part.splits["train"].ids) == list(whole.splits["train"].ids)[:100]
    assert (len(part.splits["test"]), len(part.splits["val"])) == (20, len(whole.splits["val"]))


def test_the_fingerprint_changes_with_pixels_labels_and_splits_and_with_nothing_else() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 6, 6), dtype=np.uint8), np.arange(40) % 2
    plain = load({"images": images, "labels": labels}).fingerprint()
    assert load({"images": images.copy(), "labels": labels.astype(np.uint8)}).fingerprint() == plain
    changed = images.copy()
    changed[5, 0, 0] ^= 1
    others = [
        load({"images": changed, "labels": labels}),
        load({"images": images, "labels": 1 - labels}),
        load({"images": images, "labels": labels}, config=DataConfig(split_seed=1)),
    ]
    assert len({plain, *(data.fingerprint() for data in others)}) == 4


def test_copies_of_a_file_are_drawn_into_one_split_and_counted(tmp_path: Path, photos) -> None:
    root = photos({"a": 10, "b": 10})
    for i in range(5):
        shutil.copy(root / "a" / f"{i}.png", root / "a" / f"copy-of-{i}.png")
    shutil.copy(root / "a" / "9.png", root / "b" / "9-again.png")
    for seed in range(5):
        dataset = load(root, config=DataConfig(split_seed=seed))
        place = {name: split for split, source in dataset.splits.items() for name in source.ids}
        assert all(place[f"a/{i}.png"] == place[f"a/copy-of-{i}.png"] for i in range(5))
        assert place["a/9.png"] == place["b/9-again.png"]
        assert "6 samples are exact copies of another: copies were kept in one split" in dataset.notes


def test_equal_arrays_are_drawn_into_one_split_and_a_set_without_copies_is_drawn_as_ever() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(40) % 2
    before = load({"images": images, "labels": labels})
    images[30:] = images[:10]
    after = load({"images": images, "labels": labels})
    place = {name: split for split, source in after.splits.items() for name in source.ids}
    assert all(place[f"sample/{i:05d}"] == place[f"sample/{i + 30:05d}"] for i in range(10))
    assert [len(split) for split in before.splits.values()] == [32, 4, 4]
    assert not any("copies" in note for note in before.notes)


def test_a_data_set_shows_itself_in_notebooks_with_names_escaped(tmp_path: Path, photos) -> None:
    data = load(photos({"<script>x": 6, "b&c": 6}))
    page = data._repr_html_()
    assert "data:image/png;base64," in page
    assert "<script>" not in page
    assert "b&amp;c" in page


def scene_files(root: Path, count: int) -> None:
    """`count` photos of random scenes in two classes; each of the first six has a brighter copy."""
    for i in range(count):
        scene = np.random.default_rng(i).integers(0, 200, (3, 32, 32), dtype=np.uint8)
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (root / "ab"[i % 2] / f"{i}.png").write_bytes(encode_png(scene))
        if i < 6:
            (root / "ab"[i % 2] / f"brighter-{i}.png").write_bytes(encode_png(scene + np.uint8(40)))


def places(dataset: Dataset) -> dict[str, str]:
    return {Path(name).name: split for split, source in dataset.splits.items() for name in source.ids}


def test_near_copies_are_drawn_into_one_split_and_counted(tmp_path: Path) -> None:
    scene_files(tmp_path / "photos", 40)
    for seed in range(5):
        dataset = load(tmp_path / "photos", config=DataConfig(split_seed=seed))
        place = places(dataset)
        assert all(place[f"{i}.png"] == place[f"brighter-{i}.png"] for i in range(6))
        assert dataset.near_copies_kept
        assert "12 images have near copies: they were kept in one split" in dataset.notes


def test_a_folder_and_a_table_of_the_same_photos_are_split_alike_and_a_new_photo_moves_few(tmp_path: Path) -> None:
    scene_files(tmp_path / "photos", 40)
    before = places(load(tmp_path / "photos"))
    files = sorted((tmp_path / "photos").rglob("*.png"), reverse=True)
    table = tmp_path / "table.csv"
    lines = [f"{file.relative_to(tmp_path).as_posix()},{file.parent.name}" for file in files]
    table.write_text("\n".join(["path,label", *lines, ""]))
    assert places(load(table)) == before
    scene = np.random.default_rng(99).integers(0, 200, (3, 32, 32), dtype=np.uint8)
    (tmp_path / "photos" / "a" / "new.png").write_bytes(encode_png(scene))
    after = places(load(tmp_path / "photos"))
    assert sum(after[name] != split for name, split in before.items()) <= 3


def test_photos_that_are_all_near_copies_are_drawn_all_the_same_and_that_is_said(tmp_path: Path) -> None:
    scene = np.random.default_rng(0).integers(0, 200, (3, 32, 32), dtype=np.uint8)
    for i in range(30):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(encode_png(scene + np.uint8(i)))
    dataset = load(tmp_path)
    assert not dataset.near_copies_kept
    assert any("in chains too long" in note and "column `group`" in note for note in dataset.notes)


def test_what_is_known_of_copies_is_used_again_until_a_file_changes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    scene_files(tmp_path / "photos", 20)
    first = places(load(tmp_path / "photos"))
    reads: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def call(*args: Any) -> Any:
            reads.append(name)
            return function(*args)

        monkeypatch.setattr(module, name, call)

    counted(copies, "_thumbnails")
    counted(file_facts, "_read")
    assert places(load(tmp_path / "photos")) == first
    assert not reads
    (tmp_path / "photos" / "a" / "0.png").write_bytes((tmp_path / "photos" / "a" / "2.png").read_bytes())
    load(tmp_path / "photos")
    assert reads == ["_read", "_thumbnails"]
