"""Cutout, MixUp and CutMix against drawn pixels and their own definitions."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.draws import Draws
from opsin.batches.mixing import cutout, mean_colour, partners
from opsin.config import AugmentConfig

NUM, SIDE = 50, 12


def flat_batch(num=NUM) -> Batch:
    """Each image is of one grey that tells its place."""
    grey = torch.arange(num, dtype=torch.uint8)[:, None, None, None]
    return Batch(images=grey.expand(num, 3, SIDE, SIDE).clone(), index=torch.arange(num), labels=torch.arange(num) % 10)


def run(batch, **kwargs) -> Batch:
    return augment(batch, AugmentConfig(**kwargs), seed=0, epoch=0, num_classes=10)


def test_cutout_sets_one_square_of_the_right_size_to_the_mean_colour():
    images = torch.randint(0, 256, (NUM, 3, SIDE, SIDE + 3), generator=torch.Generator().manual_seed(0)).float()
    side = torch.tensor([0, 3, 5, SIDE, 1] * 10)
    covered = cutout(images.clone(), side, Draws(seed=0, epoch=0, index=torch.arange(NUM)))
    mean = images.mean(dim=(2, 3))
    corners = set()
    for i in range(NUM):
        changed = (covered[i] == mean[i][:, None, None]).all(dim=0)
        assert int(changed.sum()) == int(side[i]) ** 2
        assert torch.equal(covered[i][:, ~changed], images[i][:, ~changed])
        if side[i]:
            rows, columns = torch.where(changed)
            assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == int(side[i]) - 1
            corners.add((int(rows.min()), int(columns.min())))
    assert len(corners) > 15


def test_cutout_reaches_every_place_and_no_further():
    index = torch.arange(5000)
    covered = cutout(
        torch.arange(36.0).view(1, 1, 6, 6).repeat(5000, 1, 1, 1),
        torch.full((5000,), 2),
        Draws(seed=0, epoch=0, index=index),
    )
    share = (covered == 17.5).float().mean(dim=0)[0]
    # A square of 2 in 6 has 5 x 5 places: an inner pixel is in 4 of them, a corner in 1.
    assert abs(float(share[0, 0]) - 1 / 25) < 0.01
    assert abs(float(share[2, 3]) - 4 / 25) < 0.02


@pytest.mark.parametrize("side", [8, 300])
def test_mean_colour_is_exact_for_small_and_large_images(side):
    images = torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0)).float()
    assert torch.allclose(mean_colour(images), images.double().mean((2, 3)).float(), rtol=1e-6)


@pytest.mark.parametrize("num", [2, 3, 50])
def test_nobody_is_his_own_partner_and_everybody_is_somebodys(num):
    for epoch in range(20):
        partner = partners(Draws(seed=0, epoch=epoch, index=torch.arange(num)))
        assert torch.equal(partner.sort().values, torch.arange(num))
        assert not bool((partner == torch.arange(num)).any())


def test_mixup_blends_pixels_in_the_share_of_the_labels():
    batch = flat_batch()
    seen = run(batch, mixup=0.8)
    partner = partners(Draws(seed=0, epoch=0, index=batch.index))
    share = seen.mixed.share
    own, other = torch.arange(NUM).float(), partner.float()
    assert torch.allclose(seen.images[:, 1, 4, 4], share * own + (1 - share) * other, atol=1e-4)
    assert torch.equal(seen.mixed.labels, batch.labels[partner])
    assert torch.equal(seen.labels, batch.labels)


def test_cutmix_pastes_one_rectangle_and_counts_its_pixels():
    batch = flat_batch()
    seen = run(batch, cutmix=1.0)
    partner = partners(Draws(seed=0, epoch=0, index=batch.index))
    kept = seen.images == batch.images
    assert torch.allclose(kept[:, 0].float().mean((1, 2)), seen.mixed.share)
    for i in range(NUM):
        pasted = ~kept[i, 0]
        assert torch.equal(seen.images[i, 0][pasted], torch.full((int(pasted.sum()),), float(partner[i])))
        rows, columns = pasted.any(dim=1), pasted.any(dim=0)
        assert int(pasted.sum()) == int(rows.sum()) * int(columns.sum())


def test_shares_of_mixup_follow_their_beta_distribution():
    batch = Batch(images=torch.zeros(4000, 1, 2, 2), index=torch.arange(4000), labels=torch.zeros(4000).long())
    share = run(batch, mixup=1.5).mixed.share.double().numpy()
    assert stats.kstest(share, stats.beta(1.5, 1.5).cdf).pvalue > 1e-3


def test_with_both_on_each_image_gets_one_of_them():
    batch = flat_batch(200)
    seen = run(batch, mixup=1.0, cutmix=1.0)
    kept = (seen.images == batch.images)[:, 0].float().mean((1, 2))
    pasted = torch.isclose(kept, seen.mixed.share) & (kept > 0)
    blended = kept == 0
    assert 60 < int(blended.sum()) < 140
    assert int((pasted | blended).sum()) >= 195


def test_shares_do_not_depend_on_the_batch():
    whole = run(flat_batch(), mixup=0.2, cutmix=1.0).mixed.share
    half = flat_batch().split(2)[1]
    assert torch.equal(run(half, mixup=0.2, cutmix=1.0).mixed.share, whole[25:])


def test_a_batch_of_one_is_mixed_with_itself():
    batch = flat_batch(1)
    seen = run(batch, mixup=1.0)
    assert torch.equal(seen.images, batch.images.float())
    assert torch.equal(seen.mixed.labels, batch.labels)
