from __future__ import annotations

import pytest
import torch

from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.config import AugmentConfig
from opsin.errors import ConfigError

ELASTIC = AugmentConfig(elastic=2.0)


def ramps(count: int, side: int = 28) -> torch.Tensor:
    """Images uint8 [count, 1, side, side] whose pixels tell their column, times 4."""
    return (torch.arange(side) * 4).to(torch.uint8).expand(count, 1, side, side).clone()


def bent(images: torch.Tensor, index: torch.Tensor, config: AugmentConfig = ELASTIC, epoch: int = 0) -> torch.Tensor:
    return augment(Batch(images=images, index=index), config, seed=3, epoch=epoch, num_classes=10).images


def test_no_pixel_moves_much_further_than_asked_for() -> None:
    images = ramps(64)
    moved = (bent(images, torch.arange(64)) - images.float())[..., 4:-4].abs() / 4
    assert 0.5 < moved.max() < 2.0 * 1.6  # a cubic may overshoot its knots


def test_the_distortion_is_smooth_between_neighbouring_pixels() -> None:
    moved = bent(ramps(64), torch.arange(64))[..., 4:-4] / 4
    assert (moved.diff(dim=-2).abs().max()) < 1.2


def test_a_sample_is_bent_alike_in_any_batch_and_otherwise_in_another_epoch() -> None:
    images, index = ramps(8), torch.arange(8)
    whole = bent(images, index)
    assert torch.equal(whole[[5, 2]], bent(images[[5, 2]], index[[5, 2]]))
    assert not torch.equal(whole, bent(images, index, epoch=1))


def test_masks_bend_with_their_images() -> None:
    images = (torch.arange(28) // 7).to(torch.uint8).expand(16, 1, 28, 28).clone()
    batch = Batch(images=images * 60, index=torch.arange(16), masks=images[:, 0])
    seen = augment(batch, ELASTIC, seed=0, epoch=0, num_classes=4)
    assert seen.masks is not None
    agree = (seen.images[:, 0] / 60).round() == seen.masks
    assert agree.float().mean() > 0.97


def test_boxes_are_refused_because_a_bent_box_is_no_box() -> None:
    batch = Batch(images=ramps(1), index=torch.arange(1), boxes=torch.tensor([[1.0, 1, 5, 5]]))
    with pytest.raises(ConfigError, match="elastic"):
        augment(batch, ELASTIC, seed=0, epoch=0, num_classes=4)


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 1.0])
def test_each_image_is_mirrored_in_its_share_of_the_epochs(probability: float) -> None:
    images, index = ramps(40), torch.arange(40)
    config = AugmentConfig(flip=probability)
    mirrored = torch.stack([bent(images, index, config, epoch)[:, 0, 0, 0] > 0 for epoch in range(8)])
    assert (mirrored.sum(dim=0) == 8 * probability).all()
    assert mirrored.float().mean(dim=1).std() < 0.2
