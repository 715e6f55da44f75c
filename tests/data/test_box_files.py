"""Boxes from outside: layouts, units, frames, and every way in which they can be wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.config import DataConfig
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.data.quality.box_checks import checked_boxes, in_pixels
from opsin.data.samples import Dataset
from opsin.errors import AnnotationError, DataError
from opsin.types import SizePolicy

HEIGHT, WIDTH = 40, 60
BOX = (10, 5, 30, 25)


def photo(path: Path, box: tuple[int, int, int, int] = BOX, orientation: int | None = None) -> None:
    """A PNG with the box in white on a shade of blue of its own; the orientation goes into its EXIF data alone."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, :, 2] = sum(path.stem.encode()) % 200
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    path.write_bytes(buffer.getvalue())


def xml(box: tuple[float, ...], *, name: str = "cat", size: tuple[int, int] = (HEIGHT, WIDTH), file: str = "") -> str:
    edges = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    stated = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size[0] else ""
    named = f"<filename>{file}</filename>" if file else ""
    return f"<annotation>{named}{stated}<object><name>{name}</name><bndbox>{edges}</bndbox></object></annotation>"


def voc(folder: Path, count: int = 12, **options: object) -> Path:
    for i in range(count):
        photo(folder / "JPEGImages" / f"{i}.png")
        text = xml((BOX[0] + 1, BOX[1] + 1, BOX[2], BOX[3]), name=("cat", "dog")[i % 2], **options)  # type: ignore[arg-type]
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{i}.xml").write_text(text)
    return folder


def table(folder: Path, rows: list[str], count: int = 12) -> Path:
    for i in range(count):
        photo(folder / f"{i}.png")
    file = folder / "boxes.csv"
    file.write_text("\n".join(["path,label,xmin,ymin,xmax,ymax", *rows]))
    return file


def drawn_boxes(dataset: Dataset) -> np.ndarray:
    """Boxes of the white pixels of every training image."""
    source, boxes = dataset.splits["train"], []
    for i in range(len(source)):
        white = source.image(i)[0] > 0
        rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return np.array(boxes, np.float32)


def array_folder(folder: Path, boxes: np.ndarray, labels: np.ndarray | None = None) -> Path:
    rng = np.random.default_rng(0)
    for split in ("training", "validation"):
        np.save(folder / f"{split}_images.npy", rng.integers(0, 255, (len(boxes), HEIGHT, WIDTH), np.uint8))
        np.save(folder / f"{split}_labels.npy", np.arange(len(boxes)) % 2 if labels is None else labels)
        np.save(folder / f"{split}_boxes.npy", boxes)
    return folder


def test_voc_counts_from_1_and_boxes_cover_the_drawn_pixels(tmp_path: Path) -> None:
    dataset = load(voc(tmp_path))
    assert dataset.task == "localize"
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(dataset.splits["train"].boxes, drawn_boxes(dataset))


def test_voc_that_counts_from_0_is_recognized_and_said(tmp_path: Path) -> None:
    voc(tmp_path)
    photo(tmp_path / "JPEGImages" / "z.png", (0, 0, 8, 8))
    (tmp_path / "Annotations" / "z.xml").write_text(xml((0, 0, 8, 8)))
    dataset = load(tmp_path)
    assert "from 0" in dataset.layout


def test_the_largest_of_several_objects_is_the_main_one_and_that_is_said(tmp_path: Path) -> None:
    voc(tmp_path)
    file = tmp_path / "Annotations" / "0.xml"
    small = "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>"
    file.write_text(file.read_text().replace("<object>", small + "<object>", 1))
    dataset = load(tmp_path)
    assert any(note.startswith("1 of 12 images have several objects") for note in dataset.notes)


def test_voc_splits_come_from_imagesets(tmp_path: Path) -> None:
    voc(tmp_path)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(map(str, range(8))))
    (lists / "val.txt").write_text("8\n9")
    dataset = load(tmp_path)
    assert {name: len(source) for name, source in dataset.splits.items()} == {"train": 8, "val": 2}
    assert any("2 objects" in note for note in dataset.notes)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("frame", ["upright", "stored"])
def test_boxes_follow_the_exif_orientation_of_their_photo(tmp_path: Path, orientation: int, frame: str) -> None:
    rows = []
    for i in range(10):
        photo(tmp_path / f"{i}.png", orientation=orientation)
        rows.append(f"{i}.png,{'cat' if i % 2 else 'dog'},{','.join(map(str, BOX))}")
    (tmp_path / "t.csv").write_text("\n".join(["path,label,xmin,ymin,xmax,ymax", *rows]))
    dataset = load(tmp_path / "t.csv", config=DataConfig(box_frame=frame))  # type: ignore[arg-type]
    boxes = dataset.splits["train"].boxes
    expected = np.tile(np.float32(BOX), (8, 1)) if frame == "upright" else drawn_boxes(dataset)
    np.testing.assert_array_equal(boxes, expected)


def test_boxes_of_turned_photos_are_refused_where_nothing_says_what_they_refer_to(tmp_path: Path) -> None:
    photo(tmp_path / "0.png", orientation=3)
    (tmp_path / "t.csv").write_text("path,label,xmin,ymin,xmax,ymax\n0.png,cat,10,5,30,25\n")
    with pytest.raises(DataError, match="EXIF orientation") as refused:
        load(tmp_path / "t.csv")
    assert "0.png" in str(refused.value)
    assert "--box-frame" in str(refused.value)


@pytest.mark.parametrize(("size", "turned"), [((HEIGHT, WIDTH), True), ((WIDTH, HEIGHT), False)])
def test_a_stated_size_decides_what_boxes_of_turned_photos_refer_to(
    tmp_path: Path, size: tuple[int, int], turned: bool
) -> None:
    voc(tmp_path, size=size)
    for i in range(12):
        photo(tmp_path / "JPEGImages" / f"{i}.png", orientation=6)
    dataset = load(tmp_path)
    expected = drawn_boxes(dataset) if turned else np.tile(np.float32(BOX), (10, 1))
    np.testing.assert_array_equal(dataset.splits["train"].boxes, expected[: len(dataset.splits["train"])])


def test_an_annotation_of_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another size"):
        load(voc(tmp_path, size=(100, 100)))


def test_coco_boxes_are_corner_and_size(tmp_path: Path) -> None:
    images, annotations = [], []
    for i in range(12):
        photo(tmp_path / "images" / f"{i}.png")
        name = f"{i}.png" if i % 3 else f"../images/{i}.png"  # one folder, spelled in two ways
        images.append({"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT})
        annotations.append({"id": i, "image_id": i, "category_id": 3 + 4 * (i % 2), "bbox": [10, 5, 20, 20]})
    names = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    file = tmp_path / "set.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    photo(tmp_path / "images" / "late.png")
    dataset = load(file)
    assert dataset.classes == ("cat", "dog")
    assert "1 images in the same folders that these annotations do not list were ignored" in dataset.notes
    np.testing.assert_array_equal(dataset.splits["train"].boxes, drawn_boxes(dataset))


def test_photos_that_no_annotation_lists_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = voc(tmp_path / "voc")
    assert not any("do not list" in note for note in load(folder).notes)
    photo(folder / "JPEGImages" / "late.png")
    found = load(folder)
    assert sum(len(source) for source in found.splits.values()) == 12
    assert "1 images in the same folders that these annotations do not list were ignored" in found.notes


def test_json_that_is_no_coco_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"images": []}')
    with pytest.raises(AnnotationError, match="not a COCO"):
        load(tmp_path / "x.json")


def test_a_table_of_shares_is_recognized_and_said(tmp_path: Path) -> None:
    shares = f"{10 / WIDTH},{5 / HEIGHT},{30 / WIDTH},{25 / HEIGHT}"
    dataset = load(table(tmp_path, [f"{i}.png,{'ab'[i % 2]},{shares}" for i in range(12)]))
    np.testing.assert_allclose(dataset.splits["train"].boxes, drawn_boxes(dataset), atol=1e-5)
    assert any("normalized" in note and "detected" in note for note in dataset.notes)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_the_courses_arrays_are_read_in_pixels_and_normalized(tmp_path: Path, one_hot: bool, normalized: bool) -> None:
    boxes = np.tile(np.array(BOX, np.float64), (6, 1))
    given = boxes / [WIDTH, HEIGHT, WIDTH, HEIGHT] if normalized else boxes
    labels = np.eye(2)[np.arange(6) % 2] if one_hot else None
    dataset = load(array_folder(tmp_path, given, labels))
    assert {name: len(source) for name, source in dataset.splits.items()} == {"train": 6, "val": 6}
    np.testing.assert_allclose(dataset.splits["val"].boxes, boxes, atol=1e-5)
    assert any(("normalized" if normalized else "pixels") in note for note in dataset.notes)
    assert any("one-hot" in note for note in dataset.notes) == one_hot


@pytest.mark.parametrize("boxes", [[[0, 0, 1, 1]], [[0.0, 0.0, 1.5, 1.2]], [[-0.1, 0.2, 0.5, 0.5]]])
def test_boxes_whose_unit_could_be_either_are_refused(boxes: list[list[float]]) -> None:
    with pytest.raises(DataError, match="unit of the boxes is ambiguous"):
        in_pixels(np.array(boxes), np.array([[40, 60]]), "auto", where="here")


def test_a_unit_that_is_given_is_taken() -> None:
    found, said = in_pixels(np.array([[0, 0, 1, 1]]), np.array([[40, 60]]), "normalized", where="here")
    assert found.tolist() == [[0, 0, 60, 40]]
    assert "as given" in said


SIZES = np.array([[40, 60], [40, 60]])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((30, 5, 10, 25), "inverted"),
        ((10, 25, 30, 5), "inverted"),
        ((10, 5, 10, 25), "empty"),
        ((np.nan, 5, 30, 25), "not numbers"),
        ((np.inf, 5, 30, 25), "not numbers"),
        ((10, 5, 70, 25), "partly outside"),
        ((-3, 5, 30, 25), "partly outside"),
        ((70, 5, 80, 25), "entirely outside"),
    ],
)
def test_wrong_boxes_are_refused_by_name(box: tuple[float, ...], message: str) -> None:
    boxes = np.array([BOX, box], np.float64)
    with pytest.raises(DataError, match=message) as refused:
        checked_boxes(boxes, SIZES, ["good.png", "bad.png"], clip=False, where="set.csv")
    assert "bad.png" in str(refused.value)
    assert "good.png" not in str(refused.value)


def test_width_and_height_given_as_corner_are_guessed_at_in_the_hint_only() -> None:
    boxes = np.array([[30, 20, 10, 15], [5, 5, 30, 30]], np.float64)
    with pytest.raises(DataError, match="x, y, width, height"):
        checked_boxes(boxes, SIZES, ["a", "b"], clip=False, where="set.csv")


def test_clipping_is_asked_for_and_counted() -> None:
    boxes = np.array([BOX, (50, 30, 65, 45)], np.float64)
    found, notes = checked_boxes(boxes, SIZES, ["a", "b"], clip=True, where="set.csv")
    assert found.tolist() == [list(map(float, BOX)), [50, 30, 60, 40]]
    assert notes == ["1 boxes were clipped at the edge"]


def test_arrays_with_boxes_outside_of_their_images_are_refused() -> None:
    arrays = {
        "images": np.zeros((4, 20, 20), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None],
        "labels": [0, 1, 0, 1],
        "boxes": np.array([[1, 1, 5, 5]] * 3 + [[1, 1, 25, 5]]),
    }
    with pytest.raises(DataError, match="partly outside"):
        load(arrays)


def test_a_box_that_a_crop_cuts_away_is_refused_with_its_id(tmp_path: Path) -> None:
    for i in range(12):
        photo(tmp_path / f"{i}.png", (0, 0, 6, 6))
    rows = [f"{i}.png,{'ab'[i % 2]},0,0,6,6" for i in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,xmin,ymin,xmax,ymax", *rows]))
    with pytest.raises(DataError, match="crop"):
        pack(load(tmp_path / "t.csv"), SizePolicy(height=20, width=20, fit="crop"))


def test_packed_boxes_move_with_their_images(tmp_path: Path) -> None:
    dataset = load(voc(tmp_path))
    packed = pack(dataset, SizePolicy(height=80, width=120, fit="squash"))["train"]
    np.testing.assert_allclose(packed.boxes, np.tile(2 * np.float32(BOX), (len(packed), 1)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0.png,,5,5,10,10,train"], "no label"),
        (["0.png,a,5,5,10,10,train", "0.png,a,5,5,12,12,val"], "two splits"),
    ],
)
def test_a_table_of_boxes_that_cannot_be_used_is_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    file = table(tmp_path, [])
    file.write_text("\n".join(["path,label,xmin,ymin,xmax,ymax,split", *rows]))
    with pytest.raises(DataError, match=message):
        load(file)


def test_arrays_without_rows_are_refused_for_what_they_lack() -> None:
    with pytest.raises(DataError, match="no boxes"):
        in_pixels(np.zeros((0, 4)), np.zeros((0, 2), np.int64), "auto", where="here")
