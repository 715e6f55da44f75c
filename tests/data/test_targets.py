"""Kinds of targets: what becomes of them when classes are renumbered, splits drawn, images packed, batches made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from opsin.batches.loader import gather
from opsin.config import DataConfig
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.data.sources import ArraySource
from opsin.data.splits import divide
from opsin.data.targets import KINDS
from opsin.evaluation.matching import absent_classes, match_classes
from opsin.io.images import encode_png
from opsin.types import SizePolicy

TAGS = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0]], np.uint8)


def test_tags_are_counted_and_the_rarest_of_a_sample_is_its_stratum():
    assert KINDS["tags"].counts(TAGS, 3).tolist() == [1, 0, 2]
    assert KINDS["tags"].strata(TAGS).tolist() == [0, 2, 3]


def test_tags_and_numbers_go_to_the_columns_of_a_network_that_knows_more():
    order = np.array([2, 0, 3])
    assert KINDS["tags"].renumbered(TAGS, order, 4)[0].tolist() == [0, 0, 1, 1]
    numbers = KINDS["numbers"].renumbered(np.array([[1.0, 2.0, 3.0]]), order, 4)
    assert np.array_equal(numbers, [[2, np.nan, 1, 3]], equal_nan=True)


def test_a_kind_finds_what_cannot_be_trained_on():
    assert KINDS["labels"].wrong(np.array([0, 3, -1]), 3).tolist() == [1, 2]
    assert KINDS["tags"].wrong(np.array([[0, 1], [2, 0]]), 2).tolist() == [1]
    assert KINDS["numbers"].wrong(np.array([[1.0], [np.inf]]), 1).tolist() == [1]
    assert KINDS["boxes"].wrong(np.zeros((2, 4)), 1).tolist() == []


def test_every_split_has_some_of_a_rare_tag():
    generator = np.random.default_rng(0)
    tags = np.zeros((200, 2), np.uint8)
    tags[:, 0], tags[:20, 1] = 1, 1
    images = generator.integers(0, 255, (200, 1, 4, 4), np.uint8)
    source = ArraySource(images=images, ids=[str(i) for i in range(200)], tags=tags)
    splits = divide(source, DataConfig())
    assert {name: int(part.tags[:, 1].sum()) for name, part in splits.items()} == {"train": 16, "val": 2, "test": 2}


def test_targets_of_files_are_packed_and_gathered_with_their_images(tmp_path: Path):
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes(encode_png(np.full((3, 8, 8), 40 * k, np.uint8)))
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "t.csv").write_text("path,label\n0.png,a;b\n1.png,b\n2.png,\n3.png,c\n")
    found = load(tmp_path / "t.csv", drawn=False)
    size = SizePolicy(height=4, width=4)
    samples = pack(found, size, cache=tmp_path / "cache", skip_unreadable=1)["test"]
    assert samples.tags.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    batch = gather(samples, torch.tensor([2, 0]))
    assert batch.tags.tolist() == [[0, 0, 1], [1, 1, 0]]
    matched = match_classes(samples, ("a", "b", "c"), ("z", "c", "b", "a"))
    assert matched.tags.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert absent_classes(matched, ("z", "c", "b", "a")) == ["z"]


def test_a_target_is_part_of_the_fingerprint_of_a_set():
    arrays = {"images": np.zeros((4, 8, 8), np.uint8), "tags": np.eye(4, 2)}
    first = load(arrays, drawn=False).fingerprint()
    assert load({**arrays, "tags": np.eye(4, 2)[::-1]}, drawn=False).fingerprint() != first
