"""Samples of another data set in the terms of a network."""

from __future__ import annotations

import numpy as np
import pytest

from opsin.data.samples import Samples
from opsin.errors import DataError
from opsin.evaluation.matching import absent_classes, match_classes, size_note
from opsin.types import SizePolicy


def samples_of(labels=None, masks=None):
    count = len(labels if labels is not None else masks)
    images = np.zeros((count, 3, 4, 4), np.uint8)
    sizes = np.full((count, 2), 4, np.int32)
    ids = [str(i) for i in range(count)]
    return Samples(images=images, ids=ids, labels=labels, masks=masks, sizes=sizes)


def test_labels_follow_their_names():
    samples = match_classes(samples_of(np.array([0, 1, 1])), ("dog", "cat"), ("cat", "dog", "eel"))
    assert samples.labels.tolist() == [1, 0, 0]
    assert absent_classes(samples, ("cat", "dog", "eel")) == ["eel"]


def test_masks_follow_their_names_and_void_stays_void():
    masks = np.array([[[0, 1], [255, 1]]], np.uint8)
    samples = match_classes(samples_of(masks=masks), ("road", "sky"), ("sky", "tree", "road"))
    assert samples.masks.tolist() == [[[2, 0], [255, 0]]]


def test_unknown_classes_are_listed():
    with pytest.raises(DataError, match=r"(?s)2 classes.*dogs, newt.*may be `dog`"):
        match_classes(samples_of(np.array([0, 1, 2])), ("dogs", "cat", "newt"), ("cat", "dog"))


@pytest.mark.parametrize(
    ("sizes", "note"),
    [
        ([[8, 8], [8, 8]], None),
        ([[8, 8], [20, 10]], "1 of 2 images were not 8x8 px (from 10x20 to 10x20)"),
        ([[30, 40], [20, 10]], "2 of 2 images were not 8x8 px (from 10x20 to 40x30)"),
    ],
)
def test_what_was_done_to_sizes_is_said(sizes, note):
    said = size_note(np.array(sizes, np.int32), SizePolicy(height=8, width=8, fit="pad"))
    assert said is None if note is None else said.startswith(note)
