"""The loader: order, exact resume, the last batch of one, memory maps, errors and abandonment."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opsin.batches.batch import Batch, Mixed
from opsin.batches.loader import NUM_AHEAD, batches, steps_per_epoch
from opsin.data.samples import Samples
from opsin.errors import ArrayError, ConfigError, DataError


def make_samples(num_samples: int, images=None) -> Samples:
    """Samples whose pixels, label, box and mask all tell the sample's number (below 256)."""
    numbers = np.arange(num_samples)
    pixels = np.broadcast_to(numbers[:, None, None, None], (num_samples, 3, 2, 4)).astype(np.uint8)
    return Samples(
        images=pixels if images is None else images,
        ids=[str(i) for i in numbers],
        labels=numbers.astype(np.int64),
        boxes=np.repeat(numbers[:, None], 4, axis=1).astype(np.float32),
        masks=pixels[:, 0].copy(),
        sizes=np.full((num_samples, 2), 2, dtype=np.int32),
    )


def seen(samples, batch_size, **kwargs) -> list[list[int]]:
    arguments = {"seed": 0, "epoch": 0, "training": True} | kwargs
    return [batch.index.tolist() for batch in batches(samples, batch_size, **arguments)]


def equal(a: Batch, b: Batch) -> bool:
    names = ("images", "index", "labels", "boxes", "masks")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.booleans())
def test_an_epoch_has_every_sample_once_in_as_many_steps_as_promised(num_samples, batch_size, training):
    lists = seen(make_samples(num_samples), batch_size, training=training)
    assert len(lists) == steps_per_epoch(num_samples, batch_size, training=training)
    assert sorted(i for one in lists for i in one) == list(range(num_samples))


def test_targets_belong_to_their_images():
    for batch in batches(make_samples(50), 8, seed=3, epoch=1, training=True):
        number = batch.images[:, 0, 0, 0]
        assert torch.equal(number.long(), batch.index)
        assert torch.equal(batch.labels, batch.index)
        assert torch.equal(batch.boxes[:, 2].long(), batch.index)
        assert torch.equal(batch.masks[:, 1, 3].long(), batch.index)
        assert batch.images.dtype == torch.uint8
        assert batch.boxes.dtype == torch.float32


def test_order_is_that_of_the_split_unless_training():
    assert seen(make_samples(5), 2, training=False) == [[0, 1], [2, 3], [4]]


def test_order_differs_by_epoch_and_seed_and_repeats():
    samples = make_samples(100)
    assert seen(samples, 32) == seen(samples, 32)
    assert seen(samples, 32) != seen(samples, 32, epoch=1)
    assert seen(samples, 32) != seen(samples, 32, seed=1)


@pytest.mark.parametrize("training", [True, False])
def test_resuming_inside_an_epoch_gives_the_batches_of_an_unbroken_one(training):
    samples = make_samples(41)
    whole = list(batches(samples, 8, seed=0, epoch=2, training=training))
    for start in range(len(whole) + 1):
        rest = list(batches(samples, 8, seed=0, epoch=2, training=training, start_step=start))
        assert len(rest) == len(whole) - start
        assert all(equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_a_last_batch_of_one_is_joined_to_the_one_before_it_in_training_alone():
    samples = make_samples(9)
    assert [len(one) for one in seen(samples, 4)] == [4, 5]
    assert [len(one) for one in seen(samples, 4, training=False)] == [4, 4, 1]
    assert [len(one) for one in seen(make_samples(10), 4)] == [4, 4, 2]


def test_batches_of_one_remain_where_nothing_else_is_possible():
    assert seen(make_samples(1), 4) == [[0]]
    assert [len(one) for one in seen(make_samples(3), 1)] == [1, 1, 1]


def test_a_read_only_memory_map_is_read_without_a_warning_and_copied(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, make_samples(20).images)
    samples = make_samples(20, images=np.load(path, mmap_mode="r"))
    batch = next(batches(samples, 4, seed=0, epoch=0, training=False))
    batch.images.fill_(7)
    assert int(samples.images[0].max()) == 0


class BrokenImages:
    """An array whose rows cannot be read from number 6 on."""

    shape = (20, 3, 2, 4)

    def __len__(self) -> int:
        return 20

    def take(self, index, axis=None, out=None, mode="raise"):
        if max(index) >= 6:
            raise ArrayError("the disk is gone")
        return np.zeros((len(index), 3, 2, 4), dtype=np.uint8)


def test_an_error_while_gathering_is_raised_at_the_batch_that_it_concerns():
    stream = batches(make_samples(20, images=BrokenImages()), 2, seed=0, epoch=0, training=False)
    assert [next(stream).index.tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ArrayError, match="the disk is gone"):
        next(stream)
    assert threads() == 0


def threads() -> int:
    return sum(thread.name.startswith("opsin-batches") for thread in threading.enumerate())


def test_an_abandoned_epoch_leaves_no_thread():
    stream = batches(make_samples(200), 2, seed=0, epoch=0, training=True)
    next(stream)
    assert threads() == 1
    del stream
    assert threads() == 0


def test_an_epoch_that_is_never_begun_starts_no_thread():
    stream = batches(make_samples(200), 2, seed=0, epoch=0, training=True)
    assert threads() == 0
    del stream


class CountingImages(BrokenImages):
    """An array that counts how many batches were read."""

    num_read = 0

    def take(self, index, axis=None, out=None, mode="raise"):
        self.num_read += 1
        return np.zeros((len(index), 3, 2, 4), dtype=np.uint8)


def test_no_more_than_the_bound_is_gathered_ahead():
    images = CountingImages()
    stream = batches(make_samples(20, images=images), 1, seed=0, epoch=0, training=True)
    next(stream)
    stream.close()
    assert 1 <= images.num_read <= NUM_AHEAD + 1


@pytest.mark.parametrize(("batch_size", "start_step"), [(0, 0), (-1, 0), (4, -1), (4, 6)])
def test_batch_size_and_first_step_out_of_range_are_refused_at_once(batch_size, start_step):
    with pytest.raises(ConfigError):
        batches(make_samples(20), batch_size, seed=0, epoch=0, training=True, start_step=start_step)


def test_an_empty_split_is_refused():
    with pytest.raises(DataError, match="no samples"):
        batches(make_samples(0), 4, seed=0, epoch=0, training=True)


def test_a_split_batch_is_the_batch_again_when_joined():
    batch = next(batches(make_samples(10), 7, seed=0, epoch=0, training=True))
    parts = batch.split(3)
    assert [len(part) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.boxes for part in parts]), batch.boxes)


def test_a_mixed_batch_is_split_and_moved_with_its_second_labels():
    mixed = Mixed(labels=torch.arange(4), share=torch.rand(4))
    batch = Batch(images=torch.zeros(4, 1, 2, 2), index=torch.arange(4), labels=torch.arange(4), mixed=mixed)
    first, second = batch.to("cpu").split(2)
    assert second.mixed.labels.tolist() == [2, 3]
    assert torch.equal(torch.cat([first.mixed.share, second.mixed.share]), mixed.share)


def doubled(batch: Batch) -> Batch:
    return replace(batch, images=batch.images * 2)


def test_batches_are_prepared_in_turn():
    samples = make_samples(20)
    plain = batches(samples, 6, seed=0, epoch=1, training=True)
    made = batches(samples, 6, seed=0, epoch=1, training=True, prepare=doubled)
    for one, other in zip(plain, made, strict=True):
        assert torch.equal(one.images * 2, other.images)
    assert threads() == 0


def test_an_error_in_preparing_is_raised_at_its_batch_and_ends_the_thread():
    def fail(batch: Batch) -> Batch:
        if 4 in batch.index:
            raise ArithmeticError("sample 4")
        return batch

    stream = batches(make_samples(20), 2, seed=0, epoch=0, training=False, prepare=fail)
    assert [next(stream).index.tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ArithmeticError, match="sample 4"):
        next(stream)
    assert threads() == 0


def test_closing_a_prepared_epoch_leaves_no_thread():
    stream = batches(make_samples(20), 2, seed=0, epoch=0, training=False, prepare=doubled)
    next(stream)
    stream.close()
    assert threads() == 0
