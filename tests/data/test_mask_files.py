"""Data sets of images with masks: layouts, meanings of values, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opsin.config import DataConfig
from opsin.data import sources
from opsin.data.catalogue import CAMVID_CLASSES, VOC_CLASSES
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.errors import AnnotationError, ConfigError, DataError, ImageError
from opsin.io.images import encode_mask, read_image, read_mask
from opsin.ops.mask_pictures import palette
from opsin.types import VOID, SizePolicy

EXIF_ORIENTATION = 0x0112


def save_image(path: Path, pixels: np.ndarray, *, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[EXIF_ORIENTATION] = orientation
    image.save(path, quality=95, exif=exif) if orientation > 1 else image.save(path, quality=95)


def save_mask(path: Path, indices: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mask(indices.astype(np.uint8), palette()))


def drawn(seed: int, *, values=(0, 1), height=12, width=10) -> tuple[np.ndarray, np.ndarray]:
    """An image and a mask in which the pixels of the mask's second value and above are bright."""
    generator = np.random.default_rng(seed)
    mask = generator.choice(values, (height, width)).astype(np.uint8)
    noise = generator.integers(0, 60, (height, width, 3))
    return (noise + 180 * (mask > 0)[..., None]).astype(np.uint8), mask


def make_voc(root: Path, *, values=(0, 15, VOID), num=3) -> Path:
    folder = root / "VOCdevkit" / "VOC2012"
    listed = folder / "ImageSets" / "Segmentation"
    listed.mkdir(parents=True)
    for s, split in enumerate(("train", "val")):
        stems = [f"2012_{s}{i}" for i in range(num)]
        (listed / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for i, stem in enumerate(stems):
            image, mask = drawn(10 * s + i, values=values)
            save_image(folder / "JPEGImages" / f"{stem}.jpg", image)
            save_mask(folder / "SegmentationClass" / f"{stem}.png", mask)
    return root


def make_pairs(root: Path, *, values=(0, 1), num=12, images="images", masks="masks") -> Path:
    for i in range(num):
        image, mask = drawn(i, values=values)
        save_image(root / images / f"{i}.png", image)
        save_mask(root / masks / f"{i}.png", mask)
    return root


def test_vocs_layout_is_recognized_and_palette_masks_keep_their_indices(tmp_path):
    found = load(make_voc(tmp_path / "mine"))
    assert (found.name, found.task, found.classes) == ("mine", "segment", VOC_CLASSES)
    assert "VOC 2012" in found.layout
    assert list(found.splits) == ["train", "val"]
    _, mask = drawn(0, values=(0, 15, VOID))
    np.testing.assert_array_equal(found.splits["train"].mask(0), mask)


def test_masks_that_no_list_of_vocs_layout_names_are_counted(tmp_path):
    assert load(make_voc(tmp_path)).notes == ()
    save_mask(next(tmp_path.rglob("SegmentationClass")) / "forgotten.png", np.zeros((5, 5)))
    assert load(tmp_path).notes == ("1 masks not listed in ImageSets/Segmentation were ignored",)


def test_foreground_makes_one_class_of_all_but_the_background(tmp_path):
    found = load(make_voc(tmp_path), config=DataConfig(classes="foreground"))
    assert found.classes == ("background", "foreground")
    _, mask = drawn(0, values=(0, 15, VOID))
    np.testing.assert_array_equal(found.splits["train"].mask(0), np.where(mask == 15, 1, mask))
    assert found.fingerprint() != load(tmp_path).fingerprint()


def test_camvids_layout_is_recognized_and_11_is_void(tmp_path):
    for split in ("train", "val", "test"):
        make_pairs(tmp_path, values=range(12), num=2, images=split, masks=f"{split}annot")
    found = load(tmp_path)
    assert found.classes == CAMVID_CLASSES
    assert list(found.splits) == ["train", "val", "test"]
    _, mask = drawn(0, values=range(12))
    np.testing.assert_array_equal(found.splits["test"].mask(0), np.where(mask == 11, VOID, mask))
    with pytest.raises(ConfigError, match="no background"):
        load(tmp_path, config=DataConfig(classes="foreground"))


def test_the_published_camvid_says_that_its_frames_are_not_independent(tmp_path):
    for split in ("train", "val", "test"):
        make_pairs(tmp_path / "CamVid", values=range(12), num=2, images=split, masks=f"{split}annot")
    assert any("frames of four drives" in note for note in load("camvid", root=tmp_path).notes)


@pytest.mark.parametrize("where", ["", "train/"])
def test_pairs_of_folders_are_recognized(tmp_path, where):
    make_pairs(tmp_path, values=(0, 1, 2, VOID), images=f"{where}images", masks=f"{where}masks")
    found = load(tmp_path)
    assert found.classes == ("background", "1", "2")
    assert "pairs" in found.layout
    assert sum(len(source) for source in found.splits.values()) == 12


def test_masks_of_0_and_255_alone_are_background_and_foreground_and_that_is_said(tmp_path):
    found = load(make_pairs(tmp_path, values=(0, VOID)))
    assert found.classes == ("background", "foreground")
    assert any("255 is treated as the foreground" in note for note in found.notes)
    assert set(np.unique(found.splits["train"].mask(0))) == {0, 1}


def test_class_names_come_from_classes_txt(tmp_path):
    make_pairs(tmp_path, values=(0, 1, 2)).joinpath("classes.txt").write_text("soil\ncrop\nweed\n")
    assert load(tmp_path).classes == ("soil", "crop", "weed")


def test_values_that_name_no_class_are_refused_and_named(tmp_path):
    found = load(make_voc(tmp_path, values=(0, 15, 21, 37)))
    with pytest.raises(ImageError, match="21, 37"):
        found.splits["train"].mask(0)
    with pytest.raises(DataError, match="21, 37"):
        pack(found, SizePolicy(height=8, width=8))


def test_values_with_large_gaps_are_no_class_numbers_but_may_be_a_foreground(tmp_path):
    folder = make_pairs(tmp_path / "a", values=(0, 128))
    with pytest.raises(DataError, match="probably not class indices") as caught:
        load(folder)
    assert "--classes foreground" in str(caught.value)
    assert load(folder, config=DataConfig(classes="foreground")).classes == ("background", "foreground")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"background\na\na\n", b"\n", b"\n".join(b"%d" % i for i in range(300))]
)
def test_a_list_of_classes_that_is_none_is_refused(tmp_path, content):
    folder = make_pairs(tmp_path)
    (folder / "classes.txt").write_bytes(content)
    with pytest.raises(AnnotationError, match=r"classes\.txt"):
        load(folder)


@pytest.mark.parametrize("names", [(), ("0.jpg", "1.jpg")])
def test_a_folder_of_masks_without_png_is_no_class_of_photos(tmp_path, names):
    folder = make_pairs(tmp_path)
    for path in (folder / "masks").iterdir():
        path.unlink()
    for name in names:
        save_image(folder / "masks" / name, np.zeros((12, 10), np.uint8))
    with pytest.raises(DataError, match="mask"):
        load(folder)


def test_colours_instead_of_indices_are_refused(tmp_path):
    make_voc(tmp_path)
    path = next(tmp_path.rglob("SegmentationClass")) / "2012_00.png"
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(path)
    with pytest.raises(ImageError, match="not a mask of indices"):
        load(tmp_path).splits["train"].mask(0)


def test_an_image_without_a_mask_is_named(tmp_path):
    make_pairs(tmp_path).joinpath("masks", "7.png").unlink()
    with pytest.raises(DataError, match="have no partner") as caught:
        load(tmp_path)
    assert "7" in str(caught.value)


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    make_voc(tmp_path)
    save_mask(next(tmp_path.rglob("SegmentationClass")) / "2012_00.png", np.zeros((5, 5)))
    with pytest.raises(ImageError, match="another size"):
        load(tmp_path).splits["train"].mask(0)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("drawn_before", [True, False])
def test_masks_turn_with_photos_that_exif_turns(tmp_path, orientation, drawn_before):
    make_voc(tmp_path)
    folder = next(tmp_path.rglob("VOC2012"))
    stored = np.zeros((12, 20, 3), np.uint8)
    stored[:4, :6] = 255
    save_image(folder / "JPEGImages" / "2012_00.jpg", stored, orientation=orientation)
    bright = load(tmp_path).splits["train"].image(0).mean(0) > 128
    mask = stored[..., 0] > 0 if drawn_before else bright
    save_mask(folder / "SegmentationClass" / "2012_00.png", 15 * mask)
    np.testing.assert_array_equal(load(tmp_path).splits["train"].mask(0) == 15, bright)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_where_nothing_tells_how_a_mask_was_drawn_it_is_refused(tmp_path, orientation):
    make_voc(tmp_path)
    image, _ = drawn(0)
    save_image(next(tmp_path.rglob("JPEGImages")) / "2012_00.jpg", image, orientation=orientation)
    with pytest.raises(ImageError, match="before or after"):
        load(tmp_path).splits["train"].mask(0)


def test_masks_are_packed_by_nearest_pixel_so_that_no_new_class_appears(tmp_path):
    found = load(make_voc(tmp_path, values=(0, 15, VOID)))
    masks = pack(found, SizePolicy(height=5, width=7))["train"].masks
    assert masks.shape == (3, 5, 7)
    assert set(np.unique(masks)) <= {0, 15, VOID}


def test_packing_decodes_each_photo_once(tmp_path, monkeypatch):
    found = load(make_voc(tmp_path, values=(0, 15, VOID)))
    decoded = []
    monkeypatch.setattr(
        sources, "read_image", lambda path, **given: decoded.append(path.name) or read_image(path, **given)
    )
    pack(found, SizePolicy(height=5, width=7))
    assert sorted(decoded) == [f"2012_{s}{i}.jpg" for s in range(2) for i in range(3)]


def test_the_cache_knows_masks_apart(tmp_path):
    make_voc(tmp_path)
    policy = SizePolicy(height=6, width=6)
    every = pack(load(tmp_path), policy, cache=tmp_path / "cache")["train"].masks
    front = load(tmp_path, config=DataConfig(classes="foreground"))
    merged = pack(front, policy, cache=tmp_path / "cache")["train"].masks
    np.testing.assert_array_equal(merged, np.where(every == 15, 1, every))


def test_foreground_is_refused_for_sets_without_masks():
    with pytest.raises(ConfigError, match="with masks"):
        load("digits", config=DataConfig(classes="foreground"))


def test_a_written_mask_is_read_back_as_it_was(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save_mask(tmp_path / "mask.png", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png").indices, mask)
