"""Masks drawn by COCO annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from opsin.data.load import load
from opsin.data.readers.coco_masks import Drawn
from opsin.errors import AnnotationError, DataError, ImageError
from opsin.ops.polygons import decode_counts, fill_polygon, fill_runs
from opsin.types import VOID

SQUARE, LARGE = [[0, 0, 2, 0, 2, 2, 0, 2]], [[0, 0, 4, 0, 4, 4, 0, 4]]
CROWD = {"size": [6, 8], "counts": [42, 6]}


def make_coco(folder: Path, *shapes: tuple[int, Any, float, int], num: int = 3) -> Path:
    """A file of images of 8x6 pixels that hold the same shapes: (category, segmentation, area, iscrowd)."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(num):
        Image.fromarray(np.full((6, 8, 3), i * 40 % 256, np.uint8)).save(folder / f"{i}.png")
    rows = [
        {"image_id": i, "category_id": c, "segmentation": s, "area": area, "iscrowd": crowd}
        for i in range(num)
        for c, s, area, crowd in shapes
    ]
    images = [{"id": i, "file_name": f"{i}.png", "height": 6, "width": 8} for i in range(num)]
    categories = [{"id": 9, "name": "dog"}, {"id": 7, "name": "cat"}]
    path = folder / "_annotations.coco.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


def test_smaller_objects_lie_on_top_crowds_are_void_and_the_rest_is_background(tmp_path):
    make_coco(tmp_path / "train", (9, SQUARE, 4, 0), (7, LARGE, 16, 0), (7, CROWD, 6, 1))
    make_coco(tmp_path / "valid", (9, SQUARE, 4, 0))
    found = load(tmp_path)
    assert (found.task, found.classes) == ("segment", ("background", "cat", "dog"))
    assert list(found.splits) == ["train", "val"]
    expected = np.zeros((6, 8), np.uint8)
    expected[:4, :4], expected[:2, :2], expected[:, 7] = 1, 2, VOID
    np.testing.assert_array_equal(found.splits["train"].mask(0), expected)


def test_a_split_without_its_annotation_file_is_left_out_and_that_is_said(tmp_path):
    make_coco(tmp_path / "train", (9, SQUARE, 4, 0), num=30)
    make_coco(tmp_path / "valid", (9, SQUARE, 4, 0)).unlink()
    found = load(tmp_path)
    assert "valid/ was ignored: 3 images, but no _annotations.coco.json" in found.notes


def test_one_file_is_read_as_masks_where_segmentation_is_asked_for(tmp_path):
    path = make_coco(tmp_path / "all", (9, SQUARE, 4, 0), num=30)
    found = load(path, task="segment")
    assert sum(len(source) for source in found.splits.values()) == 30


def test_images_that_no_file_lists_are_left_out_and_counted(tmp_path):
    path = make_coco(tmp_path / "all", (9, SQUARE, 4, 0), num=30)
    for name in ("late.png", "later.jpg", ".hidden.png", "notes.txt"):
        (path.parent / name).write_bytes(b"")
    assert (
        "2 images in the same folders that these annotations do not list were ignored"
        in load(path, task="segment").notes
    )


def test_damaged_annotations_are_refused(tmp_path):
    path = make_coco(tmp_path / "train", (9, [[0, 0, 1, 1]], 4, 0), num=30)
    with pytest.raises(ImageError, match="cannot be drawn"):
        load(path, task="segment").splits["train"].mask(0)
    path = make_coco(tmp_path / "train", (9, {"size": [6, 8], "counts": "abc"}, 4, 0), num=30)
    with pytest.raises(ImageError, match="compressed"):
        load(path, task="segment").splits["train"].mask(0)
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(AnnotationError, match="not a COCO"):
        load(path, task="segment")


def test_an_image_of_another_size_than_its_annotations_is_refused(tmp_path):
    path = make_coco(tmp_path / "train", (9, SQUARE, 4, 0), num=30)
    source = load(path, task="segment").splits["train"]
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(source.paths[0])
    with pytest.raises(ImageError, match="differs from its annotations"):
        source.mask(0)


def is_inside(x: float, y: float, corners: list[tuple[int, int]]) -> bool:
    """Even-odd rule for one point: how many sides a ray to the right crosses."""
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 13), st.integers(-3, 13)), min_size=3, max_size=7))
def test_a_pixel_belongs_to_a_polygon_if_a_ray_from_its_centre_crosses_an_odd_number_of_sides(corners):
    mask = fill_polygon([value for corner in corners for value in corner], 9, 10)
    for row in range(9):
        for column in range(10):
            x, y = column + 0.5, row + 0.5
            near = {is_inside(x + step, y, corners) for step in (-1e-6, 0, 1e-6)}
            assert bool(mask[row, column]) in near


def test_runs_that_do_not_fill_the_image_are_refused():
    with pytest.raises(DataError, match="do not fill"):
        fill_runs([1, 2], 2, 2)


def compressed(counts: list[int]) -> str:
    """COCO's text of run lengths, after maskApi.c, rleToString."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(bits + 32 * more + 48)
            if not more:
                break
    return text


@pytest.mark.parametrize("seed", range(20))
def test_compressed_run_lengths_are_those_of_the_reference(seed):
    rng = np.random.default_rng(seed)
    counts = [int(n) for n in rng.integers(0, 10 ** int(rng.integers(1, 7)), int(rng.integers(1, 30)))]
    assert decode_counts(compressed(counts)) == counts


def test_run_lengths_compressed_by_hand():
    # 16 = 0b1_00000 needs a second character, as bit 4 of the last one is the sign: 48 + 32 + 16 = "`", then "0"
    assert decode_counts("1`00") == [1, 16, 0]
    # the fourth run is 5 more than the second: 3 + 5 = 8
    assert decode_counts("1325") == [1, 3, 2, 8]
    assert decode_counts("") == []


@pytest.mark.parametrize("text", ["`", "1 2", "\x7f", "o" * 20, "1é"])
def test_text_that_is_no_run_lengths_is_refused(text):
    with pytest.raises(DataError):
        decode_counts(text)


def test_a_mask_of_compressed_run_lengths_is_drawn():
    drawn = Drawn(name="a", size=(2, 3), shapes=((1, {"counts": compressed([1, 2, 3]), "size": [2, 3]}),))
    assert drawn.draw(2, 3).tolist() == [[0, 1, 0], [1, 0, 0]]
