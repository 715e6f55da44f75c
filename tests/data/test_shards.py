"""Data sets in shards: written whole or not at all, read as they were, refused where they were changed."""

from __future__ import annotations

import errno
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from opsin.cli import main
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.data.samples import Dataset
from opsin.data.shards.source import ShardPixels, ShardSource
from opsin.data.shards.writing import write_shards
from opsin.data.sources import ArraySource
from opsin.data.splits import joined
from opsin.errors import AnnotationError, ArchiveError, ConfigError, DataError, NameTakenError, WriteError
from opsin.io import shards as tars
from opsin.types import SizePolicy

POLICY = SizePolicy(height=8, width=6)


def made(count: int = 60, *, channels: int = 3, copies: int = 0, published: bool = False) -> Dataset:
    """Random images in train and val, the first `copies` of val equal to those of train."""
    rng = np.random.default_rng(0)
    shape = (count, channels, 9, 7)
    train, val = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    val[:copies] = train[:copies]
    sources = {
        name: ArraySource(ids=[f"{name}/ü{i}" for i in range(count)], images=images, labels=np.arange(count) % 3)
        for name, images in (("train", train), ("val", val))
    }
    return Dataset(
        name="made",
        task="classify",
        classes=("a", "b", "c"),
        splits=sources,
        layout="",
        published=published,  # type: ignore[arg-type]
    )


def sharded(tmp_path: Path, dataset: Dataset, **options: float) -> Dataset:
    write_shards(dataset, tmp_path / "out", **options)  # type: ignore[arg-type]
    return load(tmp_path / "out")


def shards_of(dataset: Dataset, split: str = "train") -> ShardSource:
    source = dataset.splits[split]  # type: ignore[index]
    assert isinstance(source, ShardSource)
    return source


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_ids_and_labels_come_back_as_they_were(channels: int, tmp_path: Path) -> None:
    before = made(channels=channels)
    after = sharded(tmp_path, before, shard_mb=0.05)
    assert (after.name, after.task, after.classes) == ("made", "classify", ("a", "b", "c"))
    for split, source in before.splits.items():
        assert isinstance(source, ArraySource)
        found = shards_of(after, split)
        assert len(set(found.shard.tolist())) > 2
        place = {name: i for i, name in enumerate(source.ids)}
        rows = [place[name] for name in found.ids]
        assert sorted(rows) == list(range(len(source)))
        assert found.labels is not None
        assert source.labels is not None
        assert found.labels.tolist() == source.labels[rows].tolist()
        for i, row in enumerate(rows):
            np.testing.assert_array_equal(found.image(i), source.images[row])


def test_train_is_written_in_an_order_that_the_seed_draws_and_val_in_its_own(tmp_path: Path) -> None:
    found = sharded(tmp_path, made())
    train, val = list(shards_of(found).ids), list(shards_of(found, "val").ids)
    assert val == [f"val/ü{i}" for i in range(60)]
    assert train != [f"train/ü{i}" for i in range(60)]
    again = sharded(tmp_path / "again", made())
    assert list(shards_of(again).ids) == train
    assert again.fingerprint() == found.fingerprint()
    assert sharded(tmp_path / "other", made(), seed=1).fingerprint() != found.fingerprint()


def test_files_are_kept_byte_for_byte_and_fitted_as_packing_fits_them(photos, tmp_path: Path) -> None:
    root = photos({"a": 12, "b": 12}, height=30, width=20)
    before = load(root)
    after = sharded(tmp_path, before)
    packed, lazy = pack(before, POLICY), pack(after, POLICY)
    for split, samples in packed.items():
        images = lazy[split].images
        assert isinstance(images, ShardPixels)
        place = {name: i for i, name in enumerate(samples.ids)}
        rows = np.array([place[name] for name in lazy[split].ids])
        np.testing.assert_array_equal(np.asarray(images), np.asarray(samples.images)[rows])
    source = shards_of(after)
    assert source.stored(0) == (root / source.ids[0]).read_bytes()
    assert after.near_copies_kept == before.near_copies_kept


def test_the_shards_are_plain_webdataset_tars(tmp_path: Path) -> None:
    sharded(tmp_path, made(5))
    with tarfile.open(tmp_path / "out" / "val-000000.tar") as tar:
        assert tar.getnames() == [f"{i:09d}.{suffix}" for i in range(5) for suffix in ("npy", "cls")]
        image, label = tar.extractfile("000000003.npy"), tar.extractfile("000000003.cls")
        assert image is not None
        assert label is not None
        assert np.load(io.BytesIO(image.read())).shape == (9, 7, 3)
        assert label.read() == b"0"
    assert (tmp_path / "out" / "classes.txt").read_text() == "a\nb\nc\n"


@pytest.mark.parametrize("name", ["digit_scenes", "digit_tags"])
def test_boxes_and_tags_are_kept(name: str, tmp_path: Path) -> None:
    before = load(name)
    before = Dataset(
        **{**vars(before), "splits": {k: v.take(np.arange(min(60, len(v)))) for k, v in before.splits.items()}}
    )
    after = sharded(tmp_path, before)
    for split, source in before.splits.items():
        found = shards_of(after, split)
        rows = [list(source.ids).index(name) for name in found.ids]
        for kind, values in source.targets.items():
            np.testing.assert_array_equal(found.targets[kind], values[rows])


def test_masks_are_kept_and_packed(tmp_path: Path) -> None:
    before = load("digit_masks")
    before = Dataset(**{**vars(before), "splits": {k: v.take(np.arange(8)) for k, v in before.splits.items()}})
    after = sharded(tmp_path, before)
    for split, source in before.splits.items():
        found = shards_of(after, split)
        for i, name in enumerate(found.ids):
            np.testing.assert_array_equal(found.mask(i), source.mask(list(source.ids).index(name)))
    packed = pack(after, None, cache=tmp_path / "cache")["val"]
    assert packed.masks is not None
    np.testing.assert_array_equal(packed.masks, pack(before, None)["val"].masks)


def test_joined_splits_lie_in_the_shards_of_both(tmp_path: Path) -> None:
    """As for cross-validation; parts of a split that are joined again stay where they are."""
    dataset = sharded(tmp_path, made(), shard_mb=0.02)
    train, val = shards_of(dataset), shards_of(dataset, "val")
    both = joined([val.take(np.arange(20, 60)), train])
    assert isinstance(both, ShardSource)
    for i, (source, k) in enumerate([*((val, k) for k in range(20, 60)), *((train, k) for k in range(60))]):
        np.testing.assert_array_equal(both.image(i), source.image(k))
    assert pack(Dataset(name="x", task="classify", classes=dataset.classes, splits={"train": both}, layout=""), None)
    again = joined([train.take(np.arange(30)), train.take(np.arange(30, 60))])
    assert isinstance(again, ShardSource)
    assert again.files is train.files
    np.testing.assert_array_equal(again.image(45), train.image(45))
    with pytest.raises(DataError, match="cannot be joined"):
        joined([train, shards_of(sharded(tmp_path / "grey", made(channels=1)))])


def test_levels_of_a_part_are_not_those_of_the_whole(tmp_path: Path) -> None:
    train = shards_of(sharded(tmp_path, made()))
    assert train.levels is not None
    assert train.take(np.arange(60)[::-1]).levels is not None
    assert train.take(np.arange(59)).levels is None
    assert train.take(np.zeros(60, np.int64)).levels is None


def test_what_is_shown_of_pixels_is_counted_once(tmp_path: Path) -> None:
    dataset = made()
    found = pack(sharded(tmp_path, dataset), None)["train"].images
    assert isinstance(found, ShardPixels)
    images = dataset.splits["train"].images  # type: ignore[attr-defined]
    expected = [np.bincount(images[:, c].ravel(), minlength=256).tolist() for c in range(3)]
    assert found.levels is not None
    assert found.levels.tolist() == expected
    assert pack(sharded(tmp_path / "b", dataset), POLICY)["train"].images.levels is None  # type: ignore[union-attr]


def test_a_folder_that_exists_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(NameTakenError):
        write_shards(made(5), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tars.ShardWriter.add

    def full(self: tars.ShardWriter, name: str, data: bytes) -> tars.Member:
        if name == "000000004.cls":
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(self, name, data)

    monkeypatch.setattr(tars.ShardWriter, "add", full)
    with pytest.raises(WriteError):
        write_shards(made(20), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_files_are_refused_or_left_out_by_name(photos, tmp_path: Path) -> None:
    root = photos({"a": 12, "b": 12})
    dataset = load(root)
    broken = dataset.splits["train"].ids[3]
    (root / broken).write_bytes(b"no image")
    with pytest.raises(DataError, match=broken):
        write_shards(dataset, tmp_path / "out")
    written = write_shards(dataset, tmp_path / "out", skip_unreadable=1)
    assert written.skipped == (broken,)
    found = load(tmp_path / "out")
    assert broken not in list(found.splits["train"].ids)
    assert any("left out" in note for note in found.notes)


def test_every_changed_byte_of_an_image_is_refused(tmp_path: Path) -> None:
    found = shards_of(sharded(tmp_path, made(4)), "val")
    path = tmp_path / "out" / "val-000000.tar"
    data = path.read_bytes()
    offset, length, _ = found.places[2].tolist()
    for at in range(offset, offset + length, 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ArchiveError, match="not as it was written"):
            shards_of(load(tmp_path / "out"), "val").image(2)


@pytest.mark.parametrize("file", ["val-000000.tar", "val.npz"])
def test_a_lost_or_cut_file_is_refused(file: str, tmp_path: Path) -> None:
    sharded(tmp_path, made(4))
    path = tmp_path / "out" / file
    path.write_bytes(path.read_bytes()[:-1024])
    with pytest.raises(ArchiveError):
        shards_of(load(tmp_path / "out"), "val").image(0)
    path.unlink()
    with pytest.raises(ArchiveError):
        shards_of(load(tmp_path / "out"), "val").image(0)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "opsin shards 2"},
        {"splits": {}},
        {"splits": {"validation": {}}},
        {"clases": []},
        {"classes": "abc"},
        {"task": None},
    ],
)
def test_a_damaged_index_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    sharded(tmp_path, made(4))
    path = tmp_path / "out" / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(AnnotationError):
        load(tmp_path / "out")


@pytest.mark.parametrize("name", ["../val-000000.tar", "/etc/passwd", "a/b.tar", ".."])
def test_no_index_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    sharded(tmp_path, made(4))
    path = tmp_path / "out" / "index.json"
    index = json.loads(path.read_text())
    index["splits"]["val"]["shards"][0]["name"] = name
    path.write_text(json.dumps(index))
    with pytest.raises(AnnotationError, match="damaged"):
        load(tmp_path / "out")


def test_images_in_two_splits_are_refused_by_their_hashes(tmp_path: Path) -> None:
    from opsin.data.quality.leaks import check_leaks

    leaking = sharded(tmp_path / "a", made(copies=2))
    with pytest.raises(DataError, match="2 images lie in more than one split"):
        check_leaks(leaking)
    assert check_leaks(sharded(tmp_path / "b", made(copies=2, published=True)))[0].count == 2
    assert check_leaks(sharded(tmp_path / "c", made())) == ()


@pytest.mark.parametrize("shard_mb", [0, -1, 5000, float("nan")])
def test_an_impossible_size_of_shards_is_refused(shard_mb: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        write_shards(made(4), tmp_path / "out", shard_mb=shard_mb)


def test_the_command_prints_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["data", "shard", "digits", str(out), "--subset", "train=50,val=20,test=20", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["splits"] == {"train": 50, "val": 20, "test": 20}
    assert printed["shards"] == 3
    assert printed["bytes"] == sum(file.stat().st_size for file in out.iterdir() if file.suffix in (".tar", ".npz"))
