"""Batches at other resolutions: pixels, boxes and masks as torchvision moves them, and by hand."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from opsin.batches.batch import Batch
from opsin.batches.resolution import resize_batch, resize_images
from opsin.data.targets import KINDS

NUM, HEIGHT, WIDTH = 3, 12, 16


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [8, 16, 32])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_images_are_resized_as_torchvision_resizes(side, dtype):
    images = noise(NUM, 3, 16, 16).to(dtype)
    resized = resize_images(images, side, side)
    expected = v2.functional.resize(images.float(), [side, side], antialias=True)
    assert resized.dtype == dtype
    assert torch.allclose(resized.float(), expected, atol=1.01 if dtype == torch.uint8 else 1e-3)


def test_an_image_made_half_as_large_by_hand_keeps_flat_areas_and_means():
    images = torch.tensor([[10.0, 10, 30, 30]] * 4).view(1, 1, 4, 4)
    half = resize_images(images, 2, 2)[0, 0]
    assert torch.allclose(half.mean(), torch.tensor(20.0))
    assert torch.allclose(half[0], half[1])
    # Triangles of width 4: weights 3/7, 3/7, 1/7 at the edge.
    assert float(half[0, 0]) == pytest.approx(10 * 6 / 7 + 30 / 7)


@pytest.mark.parametrize("height", [3, 6, 9, 12, 24])
def test_boxes_and_masks_go_with_their_images_as_torchvision_moves_them(height):
    width = WIDTH * height // HEIGHT
    masks, boxes = noise(NUM, HEIGHT, WIDTH), torch.tensor([[2.0, 3.0, 9.5, 12.0]] * NUM)
    batch = Batch(images=noise(NUM, 3, HEIGHT, WIDTH), index=torch.arange(NUM), boxes=boxes, masks=masks)
    got = resize_batch(batch, height)
    framed = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH))  # type: ignore[call-arg]
    assert got.images.shape == (NUM, 3, height, width)
    assert torch.allclose(got.boxes, v2.functional.resize(framed, [height, width]).as_subclass(torch.Tensor))
    exact = v2.functional.resize(masks, [height, width], interpolation=InterpolationMode.NEAREST_EXACT)
    assert torch.equal(got.masks, exact)


def test_a_mask_made_smaller_by_hand_takes_the_class_under_each_centre():
    mask = torch.tensor([[0, 1, 2, 255, 4, 5]], dtype=torch.uint8).expand(3, 6)[None]
    resized = KINDS["masks"].resize(mask, (3, 6), (1, 2))
    assert resized.tolist() == [[[1, 4]]]  # the centre of three columns is the middle one


def test_a_batch_that_has_the_height_already_is_left_alone():
    batch = Batch(images=noise(NUM, 3, HEIGHT, WIDTH), index=torch.arange(NUM))
    assert resize_batch(batch, HEIGHT) is batch
