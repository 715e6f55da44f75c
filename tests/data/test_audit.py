"""What an audit finds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from opsin.data.load import load
from opsin.data.pack import default_cache, pack
from opsin.data.quality.audit import audit
from opsin.data.quality.leaks import check_files, check_leaks, near_in_packed
from opsin.data.quality.near import MIN_DETAIL, MIN_FINE, coarse, detail, detail_correlation, near_pairs
from opsin.data.samples import Dataset
from opsin.data.sources import FileSource
from opsin.errors import DataError
from opsin.io import spill
from opsin.io.images import encode_png, read_image
from opsin.types import SizePolicy

RNG = np.random.default_rng(0)


def scenes(num_images: int, side: int = 48) -> np.ndarray:
    """Smooth random pictures with some detail, uint8 [N, 3, side, side]."""
    noise = torch.from_numpy(RNG.normal(size=(num_images, 3, side, side))).float()
    fine, rough = (torch.nn.functional.avg_pool2d(noise, k, 1, k // 2) * k for k in (3, 21))
    return (fine * 12 + rough * 45 + 128).clamp(0, 255).to(torch.uint8).numpy()


def arrays(train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "x_train": train,
        "y_train": np.arange(len(train)) % 2,
        "x_test": test,
        "y_test": np.arange(len(test)) % 2,
    }


def kinds(data: Dataset) -> dict[str, int]:
    return {finding.kind: finding.count for finding in audit(data).findings}


def test_exact_copies_are_found_across_and_within_splits_and_with_other_labels() -> None:
    pictures = scenes(30, 32)
    pictures[3] = pictures[1]
    pictures[4] = pictures[1]
    test = scenes(6, 32)
    test[2] = pictures[7]
    found = audit(load(arrays(pictures, test), drawn=False))
    by_kind = {finding.kind: finding for finding in found.findings}
    assert by_kind["leak"].samples == ("train: train/00007 = test: test/00002",)
    assert by_kind["leak"].severity == "error"
    assert by_kind["duplicates"].samples == ("train: train/00001 = train: train/00003 = train: train/00004",)
    assert by_kind["conflicting-labels"].count == 2
    assert found.exact_in_train["test"].tolist() == [2]
    assert found.worst == "error"


def test_leaks_are_refused_in_a_users_data_unless_allowed_and_reported_in_published_sets() -> None:
    pictures, test = scenes(10, 32), scenes(4, 32)
    test[1] = pictures[2]
    data = load(arrays(pictures, test), drawn=False)
    for samples in (None, pack(data, None)):
        with pytest.raises(DataError, match="--allow-leaks"):
            check_leaks(data, samples=samples)
        allowed = check_leaks(data, allow_leaks=True, samples=samples)
        assert [(f.kind, f.severity) for f in allowed] == [("leak", "warning")]
    published = Dataset(**{**vars(data), "published": True})
    assert check_leaks(published)[0].severity == "warning"
    assert check_leaks(load("digits")) == ()


def test_shifted_recoloured_and_recompressed_copies_are_near_and_strangers_are_not() -> None:
    wide = scenes(40, 40)
    train = wide[:, :, 4:36, 4:36]
    shifted = wide[:5, :, 2:34, 5:37]
    darker = (train[5:10] * 0.7 + 10).astype(np.uint8)
    noisy = np.clip(train[10:15] + RNG.normal(0, 6, (5, 3, 32, 32)), 0, 255).astype(np.uint8)
    test = np.concatenate([shifted, darker, noisy, scenes(20, 32)])
    pairs = near_pairs(test, np.ascontiguousarray(train))
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == {(i, i) for i in range(15)}
    found = audit(load(arrays(train, test), drawn=False))
    assert found.near_in_train["test"].tolist() == list(range(15))
    assert "15 of 35 images of test (42.9%) have a near copy in train" in [f.message for f in found.findings]


def test_near_pairs_within_a_set_come_once_and_never_with_themselves() -> None:
    pictures = scenes(700, 32)
    pictures[650] = pictures[20]
    pictures[300] = pictures[299]
    pairs = near_pairs(pictures)
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == {(20, 650), (299, 300)}
    assert (pairs.likeness > 0.999).all()


def test_flat_images_are_no_near_duplicates() -> None:
    assert len(near_pairs(np.full((5, 3, 32, 32), 90, np.uint8))) == 0
    assert len(near_pairs(np.zeros((0, 3, 32, 32), np.uint8))) == 0


def test_images_without_a_candidate_are_no_near_copies_with_any_build_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_empty(images: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        assert len(images), "MKL refuses an empty batch"
        return transform(images, *args, **kwargs)

    transform = torch.fft.rfft2
    monkeypatch.setattr(torch.fft, "rfft2", refuse_empty)
    empty = torch.zeros(0, 3, 32, 32, dtype=torch.uint8)
    assert detail_correlation(empty, empty).shape == (0,)
    first, second = (np.full((1, 3, 32, 32), value, np.uint8) for value in (0, 255))
    assert len(near_pairs(first, second)) == 0


def test_detail_correlation_equals_numpys_over_all_shifts() -> None:
    first, second = (torch.from_numpy(scenes(4, 32)) for _ in range(2))
    a, b = detail(first).double().numpy(), detail(second).double().numpy()
    expected = [
        max(
            np.corrcoef(a[i, 3:29, 3:29].ravel(), b[i, y : y + 26, x : x + 26].ravel())[0, 1]
            for y in range(7)
            for x in range(7)
        )
        for i in range(4)
    ]
    np.testing.assert_allclose(detail_correlation(first, second).numpy(), expected, atol=1e-4)
    assert max(expected) < MIN_DETAIL


def test_descriptors_are_mean_free_and_of_length_one() -> None:
    descriptors = coarse(scenes(3, 32))
    np.testing.assert_allclose(descriptors.norm(dim=1), 1, atol=1e-5)
    np.testing.assert_allclose(descriptors.mean(1), 0, atol=1e-6)


def test_an_audit_with_its_arrays_in_files_finds_the_same_and_leaves_none(
    photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photos({"train/a": 9, "train/b": 9, "val/a": 2, "val/b": 2}, height=32, width=32)
    for i in range(2):
        pixels = read_image(root / f"train/a/{i}.png").pixels
        (root / f"val/a/{i}.png").write_bytes(encode_png(np.clip(pixels, 0, 240) + np.uint8(10)))
    expected = audit(load(root))
    assert expected.near_in_train["val"].tolist() == [0, 1]
    monkeypatch.setattr(spill, "IN_MEMORY_BYTES", 0)
    assert isinstance(spill.zeros((2, 3), np.float32), np.memmap)
    before = set(default_cache().iterdir())
    assert audit(load(root)).findings == expected.findings
    assert set(default_cache().iterdir()) == before


def test_unreadable_files_sizes_modes_and_imbalance_are_said(photos, tmp_path: Path) -> None:
    root = photos({"train/a": 40, "train/b": 2, "val/a": 2})
    (root / "train/a/3.png").write_bytes(b"not an image")
    found = audit(load(root))
    by_kind = {finding.kind: finding for finding in found.findings}
    assert by_kind["unreadable"].samples[0].startswith("train/a/3.png: ")
    assert by_kind["balance"].severity == "warning"
    assert by_kind["empty-class"].samples == ("b",)
    assert by_kind["sizes"].samples == ("43 of 12x10",)
    assert by_kind["modes"].count == 0


def test_drawn_digits_are_not_searched_for_near_duplicates() -> None:
    assert kinds(load("digits"))["near-duplicates"] == 0


def test_copies_of_other_encodings_are_exact(photos, tmp_path: Path) -> None:
    from opsin.io.images import read_image

    root = photos({"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1})
    pixels = read_image(root / "train/a/0.png").pixels
    body = pixels.transpose(1, 2, 0).tobytes()
    (root / "test/a/copy.ppm").write_bytes(b"P6 %d %d 255\n" % (pixels.shape[2], pixels.shape[1]) + body)
    with pytest.raises(DataError, match=r"copy\.ppm"):
        check_leaks(load(root), samples=pack(load(root), SizePolicy(height=8, width=8)))


def test_a_leak_behind_a_skipped_sample_is_named_rightly(tmp_path: Path) -> None:
    for i, pixels in enumerate(np.concatenate([scenes(4, 16), scenes(2, 16)])):
        split = "train" if i < 4 else "val"
        file = tmp_path / split / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(pixels))
    (tmp_path / "train" / "a" / "0.png").write_bytes(b"no image")
    (tmp_path / "val" / "b" / "copy.png").write_bytes((tmp_path / "train" / "b" / "3.png").read_bytes())
    found = load(tmp_path)
    samples = pack(found, SizePolicy(height=16, width=16), skip_unreadable=1)
    leaks = check_leaks(found, allow_leaks=True, samples=samples)
    assert leaks[0].samples == ("train: train/b/3.png = val: val/b/copy.png",)


def test_exact_copies_alone_are_not_told_a_second_time_as_near_ones_and_one_is_said_in_the_singular() -> None:
    pictures = np.random.default_rng(5).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    pictures[8] = pictures[0]
    labels = np.arange(12) % 2
    arrays = {"x_train": pictures[:8], "y_train": labels[:8], "x_test": pictures[8:], "y_test": labels[8:]}
    findings = {finding.kind: finding.message for finding in audit(load(arrays)).findings}
    assert findings["leak"] == "1 image lies in more than one split, pixel for pixel"
    assert findings["sizes"].startswith("1 image size (")
    assert "near-leak" not in findings


def test_an_audit_that_was_told_not_to_look_for_near_copies_says_that_it_did_not() -> None:
    pictures = np.random.default_rng(5).integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(60) % 2
    arrays = {"x_train": pictures[:50], "y_train": labels[:50], "x_test": pictures[50:], "y_test": labels[50:]}
    findings = {finding.kind: finding.message for finding in audit(load(arrays), near=False).findings}
    assert findings["near-duplicates"] == "near duplicates were not searched: --near looks for them"
    assert "near-duplicates" not in {finding.kind for finding in audit(load(arrays)).findings}


def test_most_pairs_of_flowers_that_count_as_near_copies_are_copies_by_eye() -> None:
    text = (Path(__file__).parent / "flower_pairs.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    before = [row for row in rows if float(row["detail"]) >= MIN_DETAIL]
    found = [row for row in before if float(row["fine"]) >= MIN_FINE]
    right = [sum(row["copy"] == "1" for row in part) for part in (before, found)]
    assert (len(rows), len(before), right[0], len(found), right[1]) == (82, 40, 34, 34, 32)


def test_equal_files_in_two_splits_are_refused_before_anything_is_decoded(photos, monkeypatch) -> None:
    root = photos({"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    (root / "val/a/copy.png").write_bytes((root / "train/a/1.png").read_bytes())
    monkeypatch.setattr(FileSource, "read", None)
    with pytest.raises(DataError, match=r"train/a/1\.png = val: val/a/copy\.png"):
        check_files(load(root))
    check_files(load(root), allow_leaks=True)


def test_near_copies_in_given_splits_are_told_before_training_and_nobody_says_none_unlooked() -> None:
    train, val = scenes(10, 32), scenes(4, 32)
    val[1] = (train[2] * 0.7 + 10).astype(np.uint8)
    data = load(arrays(train, val), drawn=False)
    finding = near_in_packed(data, pack(data, None))
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.message.startswith("1 of 4 images of test show the same scene")
    published = Dataset(**{**vars(data), "published": True})
    assert "not searched for: `opsin data audit`" in near_in_packed(published, pack(data, None)).message
    kept = Dataset(**{**vars(data), "near_copies_kept": True})
    assert near_in_packed(kept, pack(data, None)).message == "near copies across splits: none, by the draw"
