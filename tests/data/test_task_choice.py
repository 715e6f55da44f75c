"""A folder or file that fits several tasks: what is taken, that it is said, and how another is chosen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.data.load import load
from opsin.errors import ConfigError


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC's layout with boxes and masks of the same 12 photos."""
    folder = tmp_path / "VOC2012"
    for part in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    names = [f"photo{i:02}" for i in range(12)]
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")
        mask = np.zeros((20, 30), np.uint8)
        mask[4:12, 5:15] = 8
        Image.fromarray(mask).save(folder / "SegmentationClass" / f"{name}.png")
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>30</width><height>20</height><depth>3</depth>"
            f"</size><object><name>{'cat' if i % 2 else 'dog'}</name><bndbox><xmin>6</xmin><ymin>5</ymin>"
            "<xmax>15</xmax><ymax>12</ymax></bndbox></object></annotation>"
        )
    for split, part in (("train", names[:8]), ("val", names[8:])):
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(part))
    return tmp_path


def test_masks_are_taken_where_there_are_boxes_too_and_that_is_said(voc: Path) -> None:
    found = load(voc)
    assert found.task == "segment"
    assert any("--task localize" in note for note in found.notes)


def test_boxes_are_taken_where_they_are_asked_for(voc: Path) -> None:
    found = load(voc, task="localize")
    assert found.task == "localize"
    assert found.classes == ("cat", "dog")
    assert not any("--task" in note for note in found.notes)


def test_a_task_that_the_folder_does_not_serve_is_refused(voc: Path) -> None:
    pairs = voc / "pairs"
    (pairs / "images").mkdir(parents=True)
    (pairs / "masks").mkdir()
    for i in range(10):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(pairs / "images" / f"{i}.png")
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(pairs / "masks" / f"{i}.png")
    assert load(pairs).task == "segment"
    with pytest.raises(ConfigError, match="does not fit this task"):
        load(pairs, task="localize")


def test_a_coco_file_with_outlines_gives_boxes_and_says_that_it_could_give_masks(tmp_path: Path) -> None:
    images, annotations = [], []
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 20, "width": 30})
        outline = [[5, 4, 15, 4, 15, 12, 5, 12]]
        annotations.append(
            {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [5, 4, 10, 8], "segmentation": outline}
        )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    file = tmp_path / "all.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    boxes = load(file)
    assert boxes.task == "localize"
    assert any("--task segment" in note for note in boxes.notes)
    masks = load(file, task="segment")
    assert masks.task == "segment"
    assert (masks.splits["train"].mask(0)[4:12, 5:15] > 0).all()
