"""YOLO's folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsin.data.load import load
from opsin.errors import AnnotationError, DataError, OpsinError
from opsin.io.images import encode_png
from opsin.io.yaml_files import read_yaml

CARD = "path: ../datasets/pets\ntrain: images/train\nval: images/val\nnc: 2\nnames: ['cat', 'dog']\n"


def yolo(folder: Path, card: str = CARD, line: str = "{k} 0.5 0.25 0.5 0.25") -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 255, (3, 20, 40)).astype(np.uint8)
            (folder / "images" / split / f"{i}.png").write_bytes(encode_png(pixels))
            (folder / "labels" / split / f"{i}.txt").write_text(line.format(k=i % 2) + "\n")
    (folder / "data.yaml").write_text(card)
    return folder


def test_shares_of_the_sides_become_pixels(tmp_path: Path) -> None:
    found = load(yolo(tmp_path))
    assert (found.task, found.classes) == ("localize", ("cat", "dog"))
    assert {split: len(source) for split, source in found.splits.items()} == {"train": 12, "val": 6}
    # by hand: centre (0.5, 0.25), sides (0.5, 0.25) of 40 x 20 pixels
    assert found.splits["val"].boxes[0].tolist() == [10.0, 2.5, 30.0, 7.5]


def test_names_may_be_numbered_and_folders_may_be_roboflows(tmp_path: Path) -> None:
    card = "train: ../images/train\nval: ../images/val\nnames:\n  0: cat\n  1: dog\n"
    assert load(yolo(tmp_path, card)).classes == ("cat", "dog")


def test_the_box_of_an_outline_is_taken(tmp_path: Path) -> None:
    found = load(yolo(tmp_path, line="{k} 0.25 0.5 0.5 0.25 0.75 0.5"))
    assert found.splits["val"].boxes[0].tolist() == [10.0, 5.0, 30.0, 10.0]


@pytest.mark.parametrize("above", ["labels", "images"])
def test_the_name_of_a_folder_above_the_set_decides_nothing(tmp_path: Path, above: str) -> None:
    found = load(yolo(tmp_path / above / "pets"))
    assert len(found.splits["train"]) == 12


def test_photos_without_an_object_are_counted(tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "labels/train/3.txt").write_text("")
    (tmp_path / "labels/train/4.txt").unlink()
    found = load(tmp_path)
    assert len(found.splits["train"]) == 10
    assert any("2 images without an object" in note for note in found.notes)


@pytest.mark.parametrize("line", ["7 0.5 0.5 0.1 0.1", "a b c", "0 0.5 0.5 0.1", "0.5 0.5 0.5 0.1 0.1", "nan 1 1 1 1"])
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: str) -> None:
    yolo(tmp_path)
    (tmp_path / "labels/train/3.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(AnnotationError, match=r"3\.txt, line 2"):
        load(tmp_path)


@pytest.mark.parametrize("line", ["0 nan 0.5 0.1 0.1", "0 5 5 1 1", "0 0.5 0.5 0 0"])
def test_boxes_that_cannot_be_are_refused(tmp_path: Path, line: str) -> None:
    yolo(tmp_path)
    (tmp_path / "labels/train/3.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"3\.png"):
        load(tmp_path)


@pytest.mark.parametrize(
    "card",
    [
        "train: images/train\n",
        "train: [a, b]\nnames: [cat]\n",
        "train: nowhere\nnames: [cat, dog]\n",
        "train: ../../../../etc\nnames: [cat, dog]\n",
        "names: !!python/object/apply:os.system ['true']\n",
        "a: &a [1, 1]\nb: [*a, *a]\nnames: [x, y]\n",
        "names: " + "[" * 100 + "]" * 100,
        "\x00\xff",
        "names: [unclosed",
    ],
)
def test_a_card_that_is_not_yolos_is_refused(tmp_path: Path, card: str) -> None:
    with pytest.raises(OpsinError):
        load(yolo(tmp_path, card))


def test_cut_and_garbled_cards_are_read_or_refused(tmp_path: Path) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "data.yaml"
    for i in range(200):
        data = bytearray(CARD.encode()[: rng.integers(1, len(CARD))] if i % 2 else CARD.encode())
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(0, 256)
        file.write_bytes(bytes(data))
        try:
            read_yaml(file)
        except AnnotationError:
            continue
