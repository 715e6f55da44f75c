"""What an audit says of masks and of boxes."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.cli import main
from opsin.config import DataConfig
from opsin.data.load import load
from opsin.data.quality.audit import Audit, audit
from opsin.data.quality.findings import Finding
from opsin.data.quality.mask_audit import MaskCounts
from opsin.data.readers.mask_sources import MaskSource
from opsin.data.samples import Dataset
from opsin.io.images import DecodedImage

HEIGHT, WIDTH = 12, 10


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def pairs(root: Path, masks: dict[str, np.ndarray]) -> Path:
    """Photos and masks by "split/name"; every photo is another one."""
    for number, (name, mask) in enumerate(masks.items()):
        split, _, stem = name.partition("/")
        noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3))
        save(root / split / "images" / f"{stem}.png", noise)
        save(root / split / "masks" / f"{stem}.png", mask)
    return root


def mask(**areas: int) -> np.ndarray:
    """A mask of 120 pixels: `mask(c0=100, c1=15, c255=5)` has 100 of class 0, 15 of class 1 and 5 of void."""
    values = np.concatenate([np.full(count, int(name[1:])) for name, count in areas.items()])
    return values.reshape(HEIGHT, WIDTH)


def by_kind(found: Audit) -> dict[str, Finding]:
    return {finding.kind: finding for finding in found.findings}


@pytest.fixture
def land(tmp_path: Path) -> Dataset:
    """Four classes. `rock` is in no mask, `weed` in no mask of val."""
    root = pairs(
        tmp_path / "land",
        {
            "train/0": mask(c0=100, c1=15, c255=5),
            "train/1": mask(c0=118, c2=2),
            "train/2": mask(c0=120),
            "train/3": mask(c255=120),
            "val/0": mask(c0=60, c1=60),
        },
    )
    (root / "classes.txt").write_text("background\ncrop\nweed\nrock\n")
    return load(root)


def test_pixels_and_images_of_each_class_are_counted_in_each_split(land: Dataset) -> None:
    masks = audit(land).masks
    assert masks["train"].about(land.classes) == {
        "masks": 4,
        "void_share": 125 / 480,
        "all_void": 1,
        "classes": [
            {"class": "background", "pixels": 338, "share": 338 / 355, "images": 3},
            {"class": "crop", "pixels": 15, "share": 15 / 355, "images": 1},
            {"class": "weed", "pixels": 2, "share": 2 / 355, "images": 1},
            {"class": "rock", "pixels": 0, "share": 0.0, "images": 0},
        ],
    }
    assert [row["pixels"] for row in masks["val"].about(land.classes)["classes"]] == [60, 60, 0, 0]


def test_void_rare_and_absent_classes_and_empty_masks_are_said(land: Dataset) -> None:
    found = by_kind(audit(land))
    assert found["void"].message == "void pixels: 26.0% of train, 0.0% of val"
    assert found["absent-class"].message == "1 of 4 classes has no pixel in any mask"
    assert found["absent-class"].samples == ("rock",)
    assert found["empty-class"].message == "1 of 4 classes has no pixel in val: scores there are n/a"
    assert found["empty-class"].samples == ("weed",)
    assert found["void-masks"].message == "1 of 4 masks of train contains only void"
    assert found["void-masks"].samples == ("train/images/3.png",)
    assert found["empty-masks"].samples == ("train/images/2.png",)
    assert found["pixel-balance"].message == (
        "classes have 0.6% (weed) to 95.2% (background) of the labelled pixels of train"
    )
    graver = {kind for kind, finding in found.items() if finding.severity == "warning"}
    assert graver == {"absent-class", "empty-class", "void-masks", "pixel-balance"}


def test_a_class_that_train_alone_lacks_cannot_be_learned_and_much_void_is_a_warning(tmp_path: Path) -> None:
    masks = {"train/0": mask(c0=40, c255=80), "train/1": mask(c0=120), "val/0": mask(c0=60, c1=60)}
    found = by_kind(audit(load(pairs(tmp_path, masks))))
    assert found["empty-class"].message == "1 of 2 classes has no pixel in train: the network cannot learn them"
    assert found["void"].severity == "info"
    save(tmp_path / "train/masks/1.png", mask(c0=40, c255=80))
    assert by_kind(audit(load(tmp_path)))["void"].severity == "warning"
    assert "absent-class" not in found


def test_masks_without_void_and_without_a_background_are_not_said_to_lack_anything(tmp_path: Path) -> None:
    root = pairs(tmp_path, {"train/0": mask(c0=120), "train/1": mask(c1=60, c0=60), "val/0": mask(c0=60, c1=60)})
    (root / "classes.txt").write_text("soil\ncrop\n")
    assert {finding.kind for finding in audit(load(root)).findings} == {"note", "sizes", "modes", "pixel-balance"}


def test_masks_that_training_would_refuse_are_errors_named_with_the_reason(land: Dataset) -> None:
    assert land.root is not None
    save(land.root / "train/masks/0.png", np.zeros((5, 7)))
    save(land.root / "train/masks/1.png", mask(c0=100, c9=10, c37=10))
    found = audit(load(land.root))
    assert found.worst == "error"
    assert by_kind(found)["unreadable"].message == "2 samples of train cannot be read"
    assert by_kind(found)["unreadable"].samples == (
        "train/images/0.png: the mask has another size than its image: 7x5 instead of 10x12",
        "train/images/1.png: mask values without a class: 9, 37",
    )
    assert found.masks["train"].num_masks == 2
    tolerated = audit(load(land.root, config=DataConfig(skip_unreadable=2)))
    assert by_kind(tolerated)["unreadable"].severity == "warning"


def test_no_mask_is_kept(land: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    source, read = land.splits["train"], MaskSource.mask
    made: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def watched(source: MaskSource, i: int, image: DecodedImage) -> np.ndarray:
        held = read(source, i, image)
        made.append(weakref.ref(held))
        alive.append(sum(one() is not None for one in made))
        return held

    monkeypatch.setattr(MaskSource, "mask", watched)
    counts = MaskCounts(source)
    for i in range(4):
        counts.add(i, source.read(i))
    assert alive == [1, 1, 1, 1]


def test_the_command_prints_the_counts_and_gives_them_as_json(
    land: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["data", "audit", str(land.root), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["masks"]["train"] == audit(land).masks["train"].about(land.classes)
    assert {"void", "absent-class"} <= {finding["kind"] for finding in document["findings"]}
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["data", "audit", str(land.root)]) == 0
    shown = capsys.readouterr().out
    assert "95.2% in 3" in shown
    assert max(map(len, shown.splitlines())) <= 80


def photos_with_boxes(folder: Path, boxes: list[tuple[int, int, int, int]]) -> Path:
    rows = []
    for number, box in enumerate(boxes):
        save(folder / f"{number}.png", np.random.default_rng(number).integers(0, 256, (100, 200, 3)))
        rows.append(f"{number}.png,{'ab'[number % 2]},{','.join(map(str, box))},{'val' if number > 3 else 'train'}")
    (folder / "boxes.csv").write_text("\n".join(["path,label,xmin,ymin,xmax,ymax,split", *rows]))
    return folder / "boxes.csv"


def test_sizes_of_boxes_and_boxes_of_all_and_of_nothing_are_said(tmp_path: Path) -> None:
    boxes = [(0, 0, 200, 100), (10, 10, 30, 60), (10, 10, 110, 60), (50, 20, 53, 60), (0, 0, 100, 50), (0, 0, 100, 50)]
    found = by_kind(audit(load(photos_with_boxes(tmp_path, boxes))))
    assert found["box-sizes"].message == "boxes cover 0.6% to 100.0% of their images, half of them under 25.0%"
    assert found["whole-image-boxes"].samples == ("0.png",)
    assert found["whole-image-boxes"].message.startswith("1 of 4 boxes of train covers the whole image")
    assert found["tiny-boxes"].samples == ("3.png",)


def test_what_the_reader_says_of_boxes_is_told_once(tmp_path: Path) -> None:
    file = photos_with_boxes(tmp_path, [(10, 10, 230, 60), (10, 10, 110, 60), (1, 1, 90, 60), (50, 20, 99, 60)] * 2)
    findings = audit(load(file, config=DataConfig(clip_boxes=True))).findings
    assert [f.message for f in findings if "clipped at the edge" in f.message] == ["2 boxes were clipped at the edge"]


def test_boxes_of_one_size_have_one_share_and_an_unreadable_image_none(tmp_path: Path) -> None:
    file = photos_with_boxes(tmp_path, [(10, 10, 110, 60)] * 6)
    (tmp_path / "1.png").write_bytes(b"not an image")
    found = by_kind(audit(load(file)))
    assert found["box-sizes"].message == "boxes cover 25.0% of their images"
    assert found["box-sizes"].count == 5
    assert found["unreadable"].count == 1
