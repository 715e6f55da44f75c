"""The catalogue's sets in their publishers' layouts, written small."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from opsin.config import DataConfig
from opsin.data.catalogue import CIFAR100_COARSE, ENTRIES, how_to_get
from opsin.data.load import load
from opsin.errors import ConfigError, DataError, InputError


def write_idx(path: Path, array: np.ndarray, *, zipped: bool) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    data = header + array.astype(np.uint8).tobytes()
    path.with_name(path.name + ".gz" * zipped).write_bytes(gzip.compress(data) if zipped else data)


def write_mnist(folder: Path, *, zipped: bool = True, num_labels: int = 100) -> np.ndarray:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images, zipped=zipped)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(num_labels) % 10, zipped=zipped)
    return images


def write_cifar10(folder: Path) -> np.ndarray:
    folder.mkdir(parents=True)
    records = np.random.default_rng(0).integers(0, 256, (120, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(120) % 10
    for n in range(5):
        (folder / f"data_batch_{n + 1}.bin").write_bytes(records[20 * n : 20 * n + 20].tobytes())
    (folder / "test_batch.bin").write_bytes(records[100:].tobytes())
    return records


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")])
def test_idx_sets_are_read_gzipped_or_plain(tmp_path: Path, name: str, folder: str, zipped: bool) -> None:
    images = write_mnist(tmp_path / folder, zipped=zipped)
    data = load(name, root=tmp_path, drawn=False)
    assert (data.channels, data.size, data.published) == (1, (28, 28), True)
    np.testing.assert_array_equal(data.splits["test"].image(7)[0], images[7])
    assert data.splits["train"].labels is not None
    assert data.splits["train"].labels.tolist() == [i % 10 for i in range(100)]


def test_cifar10_keeps_the_publishers_order_and_test_split(tmp_path: Path) -> None:
    records = write_cifar10(tmp_path / "cifar-10-batches-bin")
    data = load("cifar10", root=tmp_path, config=DataConfig(subset="train=80", val_fraction=0.25))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 60, "val": 20, "test": 20}
    numbers = sorted(int(name.split("/")[1]) for split in ("train", "val") for name in data.splits[split].ids)
    assert numbers == list(range(80))
    first = data.splits["test"].image(0)
    np.testing.assert_array_equal(first, records[100, 1:].reshape(3, 32, 32))


def test_cifar100_has_fine_and_coarse_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    records = np.zeros((200, 3074), np.uint8)
    records[:, 1] = np.arange(200) % 100
    records[:, 0] = records[:, 1] // 5
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(records.tobytes())
    fine = load("cifar100", root=tmp_path, drawn=False)
    coarse = load("cifar100", root=tmp_path, config=DataConfig(label_level="coarse"), drawn=False)
    assert fine.splits["train"].labels is not None
    assert coarse.splits["train"].labels is not None
    assert fine.splits["train"].labels.tolist() == [i % 100 for i in range(200)]
    assert coarse.splits["train"].labels.tolist() == [i % 100 // 5 for i in range(200)]
    assert coarse.classes == CIFAR100_COARSE
    with pytest.raises(ConfigError, match="did you mean `coarse`"):
        load("cifar100", root=tmp_path, config=DataConfig(label_level="corase"))


def test_cifars_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(DataError, match="pickles"):
        load("cifar10", root=tmp_path)


def test_images_and_labels_of_different_lengths_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST/raw", num_labels=99)
    with pytest.raises(DataError, match="differ in number or shape"):
        load("mnist", root=tmp_path)


def test_a_cut_batch_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError):
        load("cifar10", root=tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin"):
        load("cifar10", root=tmp_path)


def test_flowers_are_undivided_class_folders(tmp_path: Path, photos) -> None:
    root = photos({f"flower_photos/{name}": 10 for name in ENTRIES["flowers"].classes}, name="root")
    data = load("flowers", root=root)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "val": 5, "test": 5}


def test_every_entry_says_where_its_files_come_from_and_knows_their_hashes() -> None:
    for entry in ENTRIES.values():
        assert bool(entry.folder) == bool(entry.files)
        assert all(file.url.startswith("https://") for file in entry.files)
        known = all(file.sha256 and len(file.sha256) == 64 and file.num_bytes for file in entry.files)
        assert known or "by hand" in how_to_get(entry, "DIR")
        assert len(set(entry.classes)) == len(entry.classes)
