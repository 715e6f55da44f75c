"""A process gathers its part of each batch, and its pictures are those that one process would see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.loader import batches
from opsin.batches.mixing import ring_of
from opsin.batches.sharing import own_rows
from opsin.config import AugmentConfig
from opsin.data.samples import Samples
from opsin.group import ALONE, Group


@pytest.fixture
def samples() -> Samples:
    """Eleven images of noise with three classes."""
    draws = np.random.default_rng(0)
    return Samples(
        images=draws.integers(0, 256, (11, 3, 8, 8), dtype=np.uint8),
        ids=[str(i) for i in range(11)],
        sizes=np.full((11, 2), 8, np.int32),
        labels=np.arange(11) % 3,
    )


def seen(samples: Samples, config: AugmentConfig, group: Group) -> list[Batch]:
    """The batches of an epoch as the network sees them in one process of a group."""
    ring = ring_of(config, seed=0, epoch=2)
    stream = batches(samples, 6, seed=0, epoch=2, training=True, group=group, ring=ring)
    return [augment(batch, config, seed=0, epoch=2, num_classes=3) for batch in stream]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(flip=0.5, shift=2, brightness=0.2),
        AugmentConfig(mixup=0.4, flip=0.5),
        AugmentConfig(cutmix=1.0, mixup=0.4),
    ],
    ids=["plain", "mixup", "both"],
)
def test_a_sample_looks_the_same_whatever_the_number_of_processes(
    size: int, config: AugmentConfig, samples: Samples
) -> None:
    whole = seen(samples, config, ALONE)
    shares = [seen(samples, config, Group(rank=rank, size=size)) for rank in range(size)]
    for step, expected in enumerate(whole):
        parts = [share[step] for share in shares]
        counted = [part.rows(0, part.share.counted) for part in parts if part.share and part.share.counted]
        assert torch.equal(torch.cat([part.images for part in counted]), expected.images)
        assert torch.equal(torch.cat([part.index for part in counted]), expected.index)
        if expected.mixed is not None:
            mixed = [part.mixed for part in counted if part.mixed is not None]
            assert torch.equal(torch.cat([one.labels for one in mixed]), expected.mixed.labels)
            assert torch.equal(torch.cat([one.share for one in mixed]), expected.mixed.share)


def test_a_share_of_nothing_is_stood_in_for_by_a_sample_that_does_not_count() -> None:
    index = torch.tensor([7, 3])
    shares = [own_rows(index, Group(rank=rank, size=3)) for rank in range(3)]
    assert [rows.share.counted for rows in shares if rows.share] == [0, 1, 1]
    assert [rows.share.whole for rows in shares if rows.share] == [2, 2, 2]
    assert [rows.index.tolist() for rows in shares] == [[7], [7], [3]]


def test_one_process_gathers_the_batch_as_it_is() -> None:
    rows = own_rows(torch.tensor([5, 1, 2]), ALONE)
    assert (rows.index.tolist(), rows.share, rows.partners) == ([5, 1, 2], None, None)
