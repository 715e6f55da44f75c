"""Packing: one array of one size, decoded once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opsin.data import levels
from opsin.data import pack as packing
from opsin.data.load import load
from opsin.data.pack import default_cache, pack, with_rows
from opsin.data.samples import Samples
from opsin.data.sources import FileSource
from opsin.errors import DataError, OpsinError
from opsin.io.images import encode_jpeg, read_image
from opsin.io.sealed import read_sealed_json, write_sealed_json
from opsin.ops.resize import fit_image
from opsin.types import SizePolicy

POLICY = SizePolicy(height=8, width=8)


def same(one: Samples, other: Samples) -> bool:
    arrays = (one.images, other.images), (one.sizes, other.sizes), (one.labels, other.labels)
    return all(np.array_equal(a, b) for a, b in arrays) and list(one.ids) == list(other.ids)


def never(self: FileSource, i: int) -> np.ndarray:
    raise AssertionError("decoded again")


def test_arrays_of_the_right_size_are_not_copied() -> None:
    data = load("digits")
    samples = pack(data, None)["train"]
    assert samples.images is data.splits["train"].images  # type: ignore[attr-defined]
    assert samples.images.dtype == np.uint8
    assert samples.sizes.tolist()[0] == [8, 8]


def test_files_are_fitted_in_order_and_keep_their_sizes(photos) -> None:
    data = load(photos({"a": 5, "b": 5}, height=12, width=10))
    train = pack(data, POLICY)["train"]
    source = data.splits["train"]
    assert isinstance(source, FileSource)
    assert (train.sizes == [12, 10]).all()
    for i, path in enumerate(source.paths):
        np.testing.assert_array_equal(train.images[i], fit_image(read_image(path).pixels, POLICY))


def test_the_second_run_decodes_nothing_and_gives_the_same(
    photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = photos({"a": 9, "b": 9}), tmp_path / "cache"
    first, in_memory = pack(load(root), POLICY, cache=cache), pack(load(root), POLICY)
    monkeypatch.setattr(FileSource, "read", never)
    second = pack(load(root), POLICY, cache=cache)
    for name in first:
        assert same(first[name], second[name])
        assert same(first[name], in_memory[name])
    images = second["train"].images
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable


def test_a_changed_file_or_another_size_is_packed_anew(photos, tmp_path: Path) -> None:
    root, cache = photos({"a": 5, "b": 5}), tmp_path / "cache"
    before = pack(load(root), POLICY, cache=cache)["train"]
    assert pack(load(root), SizePolicy(height=6, width=8), cache=cache)["train"].images.shape[2:] == (6, 8)
    data = load(root)
    source = data.splits["train"]
    assert isinstance(source, FileSource)
    source.paths[0].write_bytes(source.paths[-1].read_bytes())
    after = pack(load(root), POLICY, cache=cache)["train"]
    np.testing.assert_array_equal(after.images[0], before.images[-1])


def test_relabelling_uses_the_same_pixels(photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = photos({"a": 5, "b": 5}), tmp_path / "cache"
    pack(load(root), POLICY, cache=cache)
    (root / "a").rename(root / "a2")
    monkeypatch.setattr(FileSource, "read", never)
    assert pack(load(root), POLICY, cache=cache)["train"].ids[0].startswith("a2/")


@pytest.mark.parametrize("damage", ["flip", "cut", "manifest", "missing"])
def test_a_damaged_cache_is_packed_anew_and_this_is_said(photos, tmp_path: Path, damage: str) -> None:
    root, cache = photos({"a": 5, "b": 5}), tmp_path / "cache"
    good = pack(load(root), POLICY, cache=cache)["train"]
    expected = np.array(good.images)
    folders = sorted(cache.glob("packed/*"), key=lambda f: (f / "images.bin").stat().st_size)
    file = folders[-1] / ("manifest.json" if damage == "manifest" else "images.bin")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    if damage == "missing":
        file.unlink()
    else:
        file.unlink()
        file.write_bytes(data[:-1] if damage == "cut" else data)
    again = pack(load(root), POLICY, cache=cache)["train"]
    np.testing.assert_array_equal(again.images, expected)
    assert any("packed again" in note for note in again.notes)


@pytest.mark.parametrize("damage", [None, b"{}", [[1] * 256] * 3, [[10**20] * 256] * 3, [[[]]]])
def test_levels_are_counted_once_and_counts_that_do_not_fit_are_made_anew(
    photos, tmp_path: Path, damage: bytes | list[list[int]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = photos({"a": 5, "b": 5}), tmp_path / "cache"
    images = pack(load(root), POLICY, cache=cache)["train"].images
    expected = levels.count_levels(images).tolist()
    assert levels.levels_of(images).tolist() == expected
    (file,) = cache.glob("packed/*/levels.json")
    if isinstance(damage, bytes):
        file.unlink()
        file.write_bytes(damage)
    elif damage is not None:
        write_sealed_json(file, damage)
    else:
        monkeypatch.setattr(levels, "count_levels", None)
    assert levels.levels_of(images).tolist() == expected
    assert read_sealed_json(file) == expected


def test_levels_of_a_part_or_of_other_arrays_are_not_kept(photos, tmp_path: Path) -> None:
    samples = pack(load(photos({"a": 5, "b": 5})), POLICY, cache=tmp_path)["train"]
    other = np.memmap(tmp_path / "other.bin", np.uint8, "w+", shape=(2, 1, 2, 2))
    for images in (samples.images[:2], samples.take(np.arange(2)).images, np.array(samples.images), other):
        assert levels.levels_of(images).sum() == images.size
    assert not list(tmp_path.rglob("levels.json"))
    (tmp_path / "packed").rename(tmp_path / "elsewhere")
    assert levels.levels_of(samples.images).sum() == samples.images.size
    assert not list(tmp_path.rglob("levels.json"))


def test_unreadable_files_are_all_listed_or_skipped_up_to_a_number(photos, tmp_path: Path) -> None:
    root = photos({"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 2})
    for name in ("train/a/1.png", "train/b/3.png"):
        (root / name).write_bytes((root / name).read_bytes()[:40])
    with pytest.raises(DataError, match="2 of 10 images") as caught:
        pack(load(root), POLICY, skip_unreadable=1)
    assert "train/a/1.png" in str(caught.value)
    assert "train/b/3.png" in str(caught.value)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        train = pack(load(root), POLICY, cache=cache, skip_unreadable=2)["train"]
        assert train.skipped == ("train/a/1.png", "train/b/3.png")
        assert len(train) == len(train.ids) == 8
        assert train.labels is not None
        assert train.labels.tolist() == [0] * 4 + [1] * 4
        np.testing.assert_array_equal(train.images[1], fit_image(read_image(root / "train/a/2.png").pixels, POLICY))


def test_unreadable_files_of_val_are_skipped_on_request_and_counted(photos) -> None:
    root = photos({"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2})
    (root / "val/a/0.png").write_bytes(b"")
    with pytest.raises(DataError, match="split `val`"):
        pack(load(root), POLICY)
    val = pack(load(root), POLICY, skip_unreadable=1)["val"]
    assert len(val) == 3
    assert val.skipped == ("val/a/0.png",)
    assert "1 unreadable samples were skipped" in val.notes


def test_many_sizes_without_a_policy_are_refused(photos) -> None:
    photos({"a": 5, "b": 5})
    root = photos({"c": 5}, height=30, width=20)
    with pytest.raises(DataError, match="--input-size"):
        pack(load(root), None)


def test_progress_reaches_the_total_and_only_asked_splits_are_packed(photos) -> None:
    seen: list[tuple[int, int]] = []
    data = load(photos({"a": 20, "b": 20}))
    packed = pack(data, POLICY, splits=["train"], progress=lambda done, total: seen.append((done, total)))
    assert list(packed) == ["train"]
    assert seen[-1] == (32, 32)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_boxes_and_masks_follow_their_images(tmp_path: Path) -> None:
    images = np.zeros((20, 16, 32), np.uint8)
    images[:, 4:12, 8:24] = np.arange(200, 220)[:, None, None]
    boxes = np.tile(np.array([8, 4, 24, 12], np.float32), (20, 1))
    arrays = {"images": images, "labels": np.arange(20) % 2, "boxes": boxes, "masks": (images > 0).astype(np.uint8)}
    samples = pack(load(arrays), SizePolicy(height=8, width=16), cache=tmp_path)["train"]
    assert samples.boxes is not None
    assert samples.masks is not None
    assert samples.boxes[0].tolist() == [4, 2, 12, 6]
    assert samples.masks[0, 2:6, 4:12].all()
    assert samples.masks[0].sum() == 32
    square = pack(load(arrays), SizePolicy(height=8, width=8, fit="crop"))["train"]
    assert square.boxes is not None
    assert square.boxes[0].tolist() == [0, 2, 8, 6]


def test_boxes_clipped_by_a_crop_are_counted_and_lost_ones_refused() -> None:
    images = np.repeat(np.arange(20, dtype=np.uint8), 16 * 32).reshape(20, 16, 32)
    arrays = {"images": images, "labels": np.arange(20) % 2}
    crop = SizePolicy(height=16, width=16, fit="crop")
    clipped = load(arrays | {"boxes": np.tile(np.array([4, 4, 20, 12], np.float32), (20, 1))})
    assert "16 boxes were clipped to the frame" in pack(clipped, crop)["train"].notes
    lost = load(arrays | {"boxes": np.tile(np.array([0, 4, 6, 12], np.float32), (20, 1))})
    with pytest.raises(DataError, match="--fit pad"):
        pack(lost, crop)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("OPSIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "opsin"


def test_a_failure_while_packing_leaves_no_entry(photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pixels: np.ndarray, policy: SizePolicy, whole: tuple[int, int]) -> np.ndarray:
        raise OSError("no space left")

    monkeypatch.setattr(packing, "fit_image", fail)
    with pytest.raises(Exception, match="no space left"):
        pack(load(photos({"a": 5, "b": 5})), POLICY, cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "packed").iterdir()) == []


def test_what_decoding_did_is_counted_also_from_the_cache(photos, tmp_path: Path) -> None:
    root = photos({"train/a": 5, "train/b": 5})
    for i in range(3):
        (root / f"train/a/grey{i}.pgm").write_bytes(b"P5 4 4 65535\n" + bytes(32))
    data = load(root, drawn=False)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        assert any(note.startswith("3 images: ") for note in pack(data, POLICY, cache=cache)["train"].notes)


def test_a_full_disk_is_an_error_and_leaves_no_entry(photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OpsinError, match="No space left"):
        pack(load(photos({"a": 5, "b": 5})), POLICY, cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "packed").iterdir()) == []


def test_samples_of_a_packed_source_are_copied_and_not_decoded_again(
    photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, size = load(photos({"a": 9, "b": 9})), POLICY
    source = dataset.splits["train"]
    known = with_rows(source, size, cache=tmp_path / "cache", about="all of it")
    rows = np.arange(len(source))[::-2]
    expected = pack(replace(dataset, splits={"train": source.take(rows)}), size)["train"]
    monkeypatch.setattr(FileSource, "read", never)
    found = pack(replace(dataset, splits={"train": known.take(rows)}), size, cache=tmp_path / "cache")["train"]
    assert same(found, expected)
    assert (found.sizes == expected.sizes).all()


def test_samples_of_a_packed_source_that_cannot_be_read_are_listed(photos) -> None:
    dataset, size = load(photos({"a": 9, "b": 9})), POLICY
    source = dataset.splits["train"]
    source.paths[1].write_bytes(b"no image")
    known = with_rows(source, size, about="all of it").take(np.array([0, 1, 2]))
    part = replace(dataset, splits={"train": known})
    with pytest.raises(DataError, match="1 of 3 images"):
        pack(part, size)
    found = pack(part, size, skip_unreadable=1)["train"]
    assert found.skipped == (source.ids[1],)
    assert list(found.ids) == [source.ids[0], source.ids[2]]


LARGER = SizePolicy(height=10, width=10)


def test_a_second_larger_size_is_made_of_the_same_decoding(photos, tmp_path: Path) -> None:
    dataset = load(photos({"a": 5, "b": 5}, height=30, width=26))
    both = pack(dataset, POLICY, cache=tmp_path / "cache", larger={"train": LARGER})
    assert both["train"].larger is not None
    assert both["val"].larger is None
    assert same(both["train"], pack(dataset, POLICY)["train"])
    assert same(both["train"].larger, pack(dataset, LARGER)["train"])
    assert both["train"].to_augment is both["train"].larger
    assert both["val"].to_augment is both["val"]


def test_each_photo_is_decoded_once_for_both_sizes(photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, read, decoded = load(photos({"a": 5, "b": 5})), FileSource.read, list[int]()
    monkeypatch.setattr(FileSource, "read", lambda self, i, *how: decoded.append(i) or read(self, i, *how))
    for _ in range(2):  # the second comes from the cache
        pack(dataset, POLICY, cache=tmp_path / "cache", splits=["train"], larger={"train": LARGER})
    assert sorted(decoded) == list(range(len(dataset.splits["train"])))


def test_a_size_that_the_cache_lacks_is_made_alone(photos, tmp_path: Path) -> None:
    dataset, cache = load(photos({"a": 5, "b": 5})), tmp_path / "cache"
    pack(dataset, POLICY, cache=cache, splits=["train"])
    before = set((cache / "packed").iterdir())
    found = pack(dataset, POLICY, cache=cache, splits=["train"], larger={"train": LARGER})["train"]
    assert found.larger is not None
    assert same(found.larger, pack(dataset, LARGER)["train"])
    assert len(set((cache / "packed").iterdir()) - before) == 1


def test_a_jpeg_that_is_decoded_at_a_part_for_the_input_alone_is_decoded_again(tmp_path: Path) -> None:
    """36 px are halved for 8 px, and are not for 10 px (`io.images.SPARE`)."""
    for name, i in ((name, i) for name in ("a", "b") for i in range(5)):
        (tmp_path / name).mkdir(exist_ok=True)
        pixels = (
            np.random.default_rng(100 * ord(name) + i).integers(0, 256, (3, 9, 9), np.uint8).repeat(4, 1).repeat(4, 2)
        )
        (tmp_path / name / f"{i}.jpg").write_bytes(encode_jpeg(pixels))
    dataset = load(tmp_path)
    assert "decoded at 1/2" in pack(dataset, POLICY)["train"].notes[0]
    assert not pack(dataset, LARGER)["train"].notes
    found = pack(dataset, POLICY, larger={"train": LARGER})["train"]
    assert found.larger is not None
    assert same(found, pack(dataset, POLICY)["train"])
    assert same(found.larger, pack(dataset, LARGER)["train"])


def test_targets_and_skipped_samples_of_the_larger_size_agree(photos) -> None:
    dataset = load(photos({"a": 5, "b": 5}))
    source = dataset.splits["train"]
    source.paths[1].write_bytes(b"no image")  # type: ignore[attr-defined]
    found = pack(dataset, POLICY, skip_unreadable=1, larger={"train": LARGER})["train"]
    assert found.larger is not None
    assert found.larger.skipped == found.skipped == (source.ids[1],)
    assert list(found.larger.ids) == list(found.ids)
    images = np.zeros((20, 16, 32), np.uint8)
    images[:, 4:12, 8:24] = np.arange(200, 220)[:, None, None]
    boxes = np.tile(np.array([8, 4, 24, 12], np.float32), (20, 1))
    arrays = {"images": images, "labels": np.arange(20) % 2, "boxes": boxes, "masks": (images > 0).astype(np.uint8)}
    size, larger = SizePolicy(height=8, width=8), SizePolicy(height=12, width=12)
    samples = pack(load(arrays), size, splits=["train"], larger={"train": larger})["train"].to_augment
    assert samples.boxes is not None
    assert samples.boxes[0].tolist() == [3, 3, 9, 9]
    assert samples.masks is not None
    assert samples.masks[0, 3:9, 3:9].all()
    assert samples.take(np.array([1, 0])).larger is None


def test_both_sizes_of_a_packed_source_are_copied(photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load(photos({"a": 9, "b": 9}))
    known = with_rows(dataset.splits["train"], POLICY, cache=tmp_path / "cache", about="all of it", larger=LARGER)
    rows = np.arange(len(known))[::-2]
    part = replace(dataset, splits={"train": dataset.splits["train"].take(rows)})
    expected = pack(part, POLICY, larger={"train": LARGER})["train"]
    monkeypatch.setattr(FileSource, "read", never)
    found = pack(replace(dataset, splits={"train": known.take(rows)}), POLICY, larger={"train": LARGER})["train"]
    assert found.larger is not None
    assert expected.larger is not None
    assert same(found, expected)
    assert same(found.larger, expected.larger)
