"""Folders that one file of annotations makes a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.data.load import load
from opsin.errors import AnnotationError, DataError

COLUMNS = "path,label,xmin,ymin,xmax,ymax"


def coco_folder(folder: Path, file: str = "instances.json") -> Path:
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": 30, "width": 40})
        annotations.append({"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [5, 6, 10, 12]})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("file", ["instances.json", "annotations/instances.json"])
def test_a_folder_with_one_coco_file_is_recognized(tmp_path: Path, file: str) -> None:
    dataset = load(coco_folder(tmp_path / "set", file))
    assert (dataset.task, dataset.classes) == ("localize", ("cat", "dog"))


def test_a_folder_with_a_table_of_boxes_is_recognized(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "set")
    (folder / "instances.json").unlink()
    rows = [f"images/{i}.png,{'ab'[i % 2]},5,6,15,18" for i in range(12)]
    (folder / "boxes.csv").write_text("\n".join([COLUMNS, *rows]))
    assert load(folder).classes == ("a", "b")


def test_several_files_of_annotations_are_named(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path / "set")
    (folder / "boxes.csv").write_text(f"{COLUMNS}\nimages/0.png,a,1,2,3,4")
    with pytest.raises(DataError, match=r"boxes\.csv, instances\.json"):
        load(folder)


def test_images_that_share_an_id_are_refused(tmp_path: Path) -> None:
    file = coco_folder(tmp_path / "set") / "instances.json"
    content = json.loads(file.read_text())
    content["images"][1]["id"] = 0
    file.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="share an id"):
        load(file)


def test_boxes_without_outlines_are_no_data_for_segmentation(tmp_path: Path) -> None:
    file = coco_folder(tmp_path / "set") / "instances.json"
    with pytest.raises(AnnotationError, match="segmentation"):
        load(file, task="segment")
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(DataError, match="no shapes"):
        load(file, task="segment")
