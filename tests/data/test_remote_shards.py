"""Sets in shards in an object store: fsspec's own store in memory stands for S3 and its like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from opsin.batches.loader import batches
from opsin.data.load import Dataset, load
from opsin.data.pack import default_cache, pack
from opsin.data.shards.source import ShardSource
from opsin.data.shards.writing import write_shards
from opsin.errors import ArchiveError, DataError, DownloadError
from opsin.io.remote import RemoteFolder, RemoteShards, is_remote
from opsin.training import train

fsspec = pytest.importorskip("fsspec")
ADDRESS = "memory://bucket/set"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of 80 images in some ten shards, here."""
    images = np.random.default_rng(0).integers(0, 256, (110, 12, 12, 3), dtype=np.uint8)
    arrays = {"images": images[:80], "labels": np.arange(80) % 2}
    dataset = Dataset.from_arrays(
        {f"train_{k}": v for k, v in arrays.items()} | {"val_images": images[80:], "val_labels": np.arange(30) % 2}
    )
    write_shards(dataset, tmp_path / "set", shard_mb=0.015)
    return tmp_path / "set"


@pytest.fixture
def store(folder: Path) -> Iterator[dict[str, bytes]]:
    """The same set in a store: its files by name."""
    files = fsspec.filesystem("memory")
    files.put(str(folder), "/bucket/set", recursive=True)
    yield files.store
    files.rm("/bucket", recursive=True)


def source_of(address: str | Path) -> ShardSource:
    source = load(address).splits["train"]
    assert isinstance(source, ShardSource)
    return source


def test_a_set_in_a_store_is_the_set_that_was_written(folder: Path, store: object) -> None:
    here, there = load(folder), load(ADDRESS)
    assert there.fingerprint() == here.fingerprint()
    assert f"read from {ADDRESS}" in there.notes
    for one, other in zip(batches_of(folder), batches_of(ADDRESS), strict=True):
        assert one == other


def batches_of(address: str | Path) -> list[list[int]]:
    samples = pack(load(address), None)["train"]
    stream = batches(samples, 16, seed=0, epoch=0, training=True, window=20)
    return [[int(image.long().sum()) for image in batch.images] for batch in stream]


def test_only_the_shards_of_a_window_are_held_and_no_file_has_a_name(store: object) -> None:
    samples = pack(load(ADDRESS), None)["train"]
    source = source_of(ADDRESS)
    files = samples.images.source.files  # type: ignore[union-attr]
    assert isinstance(files, RemoteShards)
    stream = batches(samples, 4, seed=0, epoch=0, training=True, window=8)
    held = [len(files._fetched) for _ in stream]
    assert len(set(source.shard.tolist())) >= 8
    assert max(held) <= 4
    assert list((default_cache() / "shards").iterdir()) == []


def test_a_lone_sample_is_fetched_by_itself(store: object) -> None:
    source = source_of(ADDRESS)
    assert source.image(3).shape == (3, 12, 12)
    assert not source.files._fetched  # type: ignore[attr-defined]


@pytest.mark.parametrize("at", [600, -1])
def test_a_shard_that_was_altered_in_the_store_is_refused(at: int, store: object) -> None:
    files = fsspec.filesystem("memory")
    data = bytearray(files.cat("/bucket/set/train-000000.tar"))
    data[at] ^= 1
    files.pipe("/bucket/set/train-000000.tar", bytes(data))
    with pytest.raises(ArchiveError, match="not as it was written"):
        batches_of(ADDRESS)


def test_a_shard_that_is_gone_is_named(store: object) -> None:
    fsspec.filesystem("memory").rm("/bucket/set/train-000002.tar")
    with pytest.raises(DownloadError, match=r"train-000002\.tar"):
        batches_of(ADDRESS)


def test_an_address_that_a_file_names_is_not_followed(store: object) -> None:
    with pytest.raises(DataError, match="not followed"):
        load(ADDRESS, typed=False)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/set",
        "https://example.org/set",
        "file:///etc",
        "reference://x",
        "simplecache::memory://bucket/set",
        "memory://bucket/set::file:///etc",
        "sftp://host/set",
        "s3://",
    ],
)
def test_other_addresses_and_chains_of_them_are_none_of_a_store(address: str) -> None:
    assert not is_remote(address)


def test_nothing_at_an_address_is_a_download_error() -> None:
    with pytest.raises(DownloadError, match="cannot be read"):
        RemoteFolder("memory://nothing").read("index.json")


def test_a_network_trains_from_a_store_as_from_the_folder(folder: Path, store: object, tmp_path: Path) -> None:
    settings = {"model": "plain", "filters": (4,), "dense": (), "epochs": 1, "batch_size": 16, "preflight": False}
    runs = [
        train(source, out=tmp_path / "runs", name=name, quiet=True, threads=1, precision="float32", **settings)
        for name, source in (("here", str(folder)), ("there", ADDRESS))
    ]
    one, other = (dict(run.network().state_dict()) for run in runs)
    assert all(bool((one[key] == other[key]).all()) for key in one)
    assert runs[1].config.source == ADDRESS
