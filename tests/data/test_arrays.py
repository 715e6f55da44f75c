"""Arrays from Python and from .npz files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.data.load import load
from opsin.errors import DataError, InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 3, 8, 6), dtype=np.uint8)
LABELS = np.arange(40) % 4


def pixels(arrays: dict[str, Any]) -> np.ndarray:
    return np.stack([load(arrays, drawn=False).splits["test"].image(i) for i in range(40)])


def test_three_layouts_give_the_same_images() -> None:
    for images in (IMAGES, IMAGES.transpose(0, 2, 3, 1)):
        np.testing.assert_array_equal(pixels({"images": images, "labels": LABELS}), IMAGES)
    np.testing.assert_array_equal(pixels({"x": IMAGES[:, 0], "y": LABELS}), IMAGES[:, :1])


@pytest.mark.parametrize("shape", [(40, 3, 8, 3), (40, 1, 8, 1), (40, 8, 3), (40, 4, 8, 6), (40, 64), (40,)])
def test_a_layout_that_cannot_be_told_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="layout of the images is ambiguous"):
        load({"images": np.zeros(shape, np.uint8), "labels": LABELS})


def test_the_layout_that_was_seen_is_said() -> None:
    assert "[N, H, W, C]" in load({"images": IMAGES.transpose(0, 2, 3, 1), "labels": LABELS}).layout


def test_keras_style_files_have_two_splits(tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", x_train=IMAGES, y_train=LABELS[:, None], x_test=IMAGES[:8], y_test=LABELS[:8, None])
    data = load(tmp_path / "k.npz")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 36, "val": 4, "test": 8}


def test_medmnist_style_names_are_understood_and_others_are_said() -> None:
    arrays = {f"{s}_{k}": v for s in ("train", "val", "test") for k, v in (("images", IMAGES), ("labels", LABELS))}
    data = load(arrays | {"extra": np.zeros(3)})
    assert [len(split) for split in data.splits.values()] == [40, 40, 40]
    assert "ignored arrays: extra" in data.notes[0]


def test_fractions_are_scaled_and_this_is_said() -> None:
    data = load({"images": IMAGES.astype(np.float32) / 255, "labels": LABELS}, drawn=False)
    np.testing.assert_array_equal(data.splits["test"].image(3), IMAGES[3])
    assert any("multiplied by 255" in note for note in data.notes)
    np.testing.assert_array_equal(pixels({"images": IMAGES.astype(np.float64), "labels": LABELS}), IMAGES)


@pytest.mark.parametrize("change", [lambda x: x - 300.0, lambda x: x * 2.0, lambda x: x + 0.5])
def test_values_that_are_no_pixels_are_refused(change: Any) -> None:
    with pytest.raises(DataError, match="pixel values"):
        load({"images": change(IMAGES.astype(np.float64)), "labels": LABELS})


@pytest.mark.parametrize("bad", [-1.0, np.nan, 0.5, np.inf])
def test_labels_that_are_no_class_numbers_are_refused_with_their_place(bad: float) -> None:
    labels = LABELS.astype(np.float64)
    labels[7] = bad
    with pytest.raises(DataError, match="samples 7"):
        load({"images": IMAGES, "labels": labels})


def test_a_label_beyond_the_named_classes_is_refused() -> None:
    with pytest.raises(DataError, match="name no class"):
        load({"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b", "c"])})


def test_one_hot_rows_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match="argmax"):
        load({"images": IMAGES, "labels": np.eye(4)[LABELS]})


def test_labels_that_begin_at_one_are_refused_as_an_empty_class() -> None:
    with pytest.raises(DataError, match="start at 0"):
        load({"images": IMAGES, "labels": LABELS + 1})


def test_names_become_numbers_in_natural_order() -> None:
    names = np.array(["x10", "x2", "x1", "x3"])[LABELS]
    data = load({"images": IMAGES, "labels": names}, drawn=False)
    assert data.classes == ("x1", "x2", "x3", "x10")
    assert data.splits["test"].labels is not None
    assert [data.classes[k] for k in data.splits["test"].labels] == names.tolist()


def test_lengths_that_disagree_and_missing_labels_are_refused() -> None:
    with pytest.raises(DataError, match="different lengths"):
        load({"images": IMAGES, "labels": LABELS[:-1]})
    with pytest.raises(DataError, match="no labels"):
        load({"images": IMAGES})
    with pytest.raises(DataError, match="do not form a data set"):
        load({"labels": LABELS})


def test_mask_values_that_name_no_given_class_are_refused_and_named() -> None:
    masks = np.zeros((40, 8, 6), np.uint8)
    masks[3, 0, 0], masks[5, 0, 0], masks[7, 0, 0] = 1, 255, 2
    arrays = {"images": IMAGES, "masks": masks}
    assert load(arrays | {"classes": np.array(["soil", "crop", "weed"])}).classes == ("soil", "crop", "weed")
    with pytest.raises(DataError, match="without a class") as caught:
        load(arrays | {"classes": np.array(["soil", "crop"])})
    assert (caught.value.got, caught.value.expected) == ("2", "0 to 1, or 255 for void")


def test_boxes_and_masks_name_the_task_and_are_checked() -> None:
    boxes = np.tile(np.array([1, 1, 4, 5], np.float32), (40, 1))
    assert load({"images": IMAGES, "labels": LABELS, "boxes": boxes}).task == "localize"
    assert load({"images": IMAGES, "masks": (IMAGES[:, 0] > 99).astype(np.uint8)}).task == "segment"
    with pytest.raises(DataError, match="add the first two"):
        load({"images": IMAGES, "labels": LABELS, "boxes": boxes[:, [2, 3, 0, 1]]})


def test_an_npz_with_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", images=IMAGES, labels=np.array([{}] * 40, dtype=object))
    with pytest.raises(InputError):
        load(tmp_path / "o.npz")


def test_a_set_without_samples_says_so() -> None:
    with pytest.raises(DataError, match="no images"):
        load({"images": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.zeros(0, np.int64)})


def test_labels_that_are_python_objects_are_refused_with_the_way_to_save_names(tmp_path: Path) -> None:
    file = tmp_path / "objects.npz"
    np.savez(file, images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array(["a", "b"], dtype=object))
    with pytest.raises(InputError, match="Python objects") as caught:
        load(file)
    assert "labels.astype('str')" in str(caught.value.do)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_with_pixels_that_are_no_numbers_are_named(bad: float) -> None:
    images = IMAGES.astype(np.float32) / 255
    images[7, 1, 2, 3] = images[31, 0, 0, 0] = bad
    with pytest.raises(DataError, match=r"2 of 40 images contain NaN or infinity[\s\S]*samples 7, 31"):
        load({"images": images, "labels": LABELS})
    ids = [f"scan-{i}" for i in range(40)]
    with pytest.raises(DataError, match=r"samples 7 \(scan-7\), 31 \(scan-31\)"):
        load({"images": images, "labels": LABELS, "ids": ids})


def test_large_floats_whose_sum_overflows_are_not_called_infinite() -> None:
    with pytest.raises(DataError, match="neither 0 to 255 nor 0 to 1"):
        load({"images": np.full((4, 3, 8, 6), 3e38, np.float32), "labels": LABELS[:4]})


@pytest.mark.parametrize("highest", [10**9, 2**62])
def test_a_label_that_would_make_a_billion_classes_is_refused_before_they_are_named(highest: int) -> None:
    labels = LABELS.astype(np.int64)
    labels[5] = highest
    with pytest.raises(DataError, match=r"too large for a class index[\s\S]*return_inverse"):
        load({"images": IMAGES, "labels": labels})
