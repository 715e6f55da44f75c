"""Geometry against torchvision, against drawn pixels, and against cases worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from opsin.batches.batch import Batch
from opsin.batches.draws import Draws
from opsin.batches.geometry import _flips, forward_maps, inverted, move, move_boxes, warp_batch
from opsin.batches.policy import knobs_of
from opsin.batches.resolution import resize_images, resized
from opsin.batches.sampling import slide
from opsin.config import AugmentConfig

NUM = 60
H, W = 12, 17


def draws_and_knobs(height=H, width=W, **kwargs):
    draws = Draws(seed=5, epoch=2, index=torch.arange(NUM))
    return draws, knobs_of(AugmentConfig(**kwargs), draws, channels=3, side=min(height, width))


def noise(*shape, high=256):
    return torch.randint(0, high, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fill", ["reflect", "black"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_slide_equals_torchvision_image_by_image(fill, dtype):
    pixels = noise(NUM, 3, H, W).to(dtype)
    generator = torch.Generator().manual_seed(3)
    flip, vertical = torch.rand(2, NUM, generator=generator) < 0.5
    down, right = torch.randint(-5, 6, (2, NUM), generator=generator)
    got = slide(pixels, flip=flip, flip_vertical=vertical, down=down, right=right, fill=fill, value=9)
    for i in range(NUM):
        one = v2.functional.horizontal_flip(pixels[i]) if flip[i] else pixels[i]
        one = v2.functional.vertical_flip(one) if vertical[i] else one
        mode = {"padding_mode": "reflect"} if fill == "reflect" else {"padding_mode": "constant", "fill": 9}
        padded = v2.functional.pad(one.float(), [5, 5, 5, 5], **mode)
        top, left = 5 - int(down[i]), 5 - int(right[i])
        assert torch.equal(got[i].float(), padded[:, top : top + H, left : left + W])


def test_slide_by_hand():
    row = torch.tensor([[[[1, 2, 3, 4]]]], dtype=torch.uint8)
    on, off, none = torch.tensor([True]), torch.tensor([False]), torch.tensor([0])
    shared = {"flip_vertical": off, "down": none, "value": 0}
    right = slide(row, flip=off, right=torch.tensor([2]), fill="reflect", **shared)
    assert right.flatten().tolist() == [3, 2, 1, 2]
    mirrored = slide(row, flip=on, right=torch.tensor([-1]), fill="black", **shared)
    assert mirrored.flatten().tolist() == [3, 2, 1, 0]


AFFINE = [(0, (0, 0), 1.0, 0), (30, (0, 0), 1.0, 0), (0, (3, -2), 1.0, 0), (0, (0, 0), 1.3, 0), (0, (0, 0), 1.0, 20)]


@pytest.mark.parametrize(("angle", "shift", "scale", "shear"), [*AFFINE, (-40, (1, 2), 0.8, -15)])
def test_warp_equals_torchvision_affine(angle, shift, scale, shear):
    """Our map with torchvision's parameters; its shear has the opposite sign."""
    a, slope = math.radians(angle), math.tan(math.radians(-shear))
    cos, sin = math.cos(a), math.sin(a)
    linear = [[scale * cos, scale * (slope * cos - sin)], [scale * sin, scale * (slope * sin + cos)]]
    forward = torch.tensor([[[*linear[0], shift[0]], [*linear[1], shift[1]]]], dtype=torch.float64)
    image, mask = noise(1, 3, H, W), noise(1, H, W, high=3)
    box = torch.tensor([[6.0, 4.0, 11.0, 8.0]])
    got = warp_batch(Batch(images=image, masks=mask, index=torch.zeros(1, dtype=torch.long)), forward, "black")
    arguments = {"angle": angle, "translate": list(shift), "scale": scale, "shear": [shear, 0]}
    bilinear = {"interpolation": InterpolationMode.BILINEAR}
    expected = v2.functional.affine(image.float(), **arguments, **bilinear)
    # torchvision fades images into black over the last pixel as we do.
    assert torch.allclose(got.images, expected, atol=2e-2)
    expected_mask = v2.functional.affine(tv_tensors.Mask(mask), **arguments, fill=255)
    assert float((got.masks == expected_mask).float().mean()) > 0.985  # pixels midway between two may go either way
    boxes = tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(H, W))
    assert torch.allclose(move_boxes(box, forward, H, W), v2.functional.affine(boxes, **arguments).float(), atol=0.02)


def test_crop_is_the_window_that_torchvision_would_cut_and_resize():
    draws, knobs = draws_and_knobs(crop_area=0.4)
    image = (torch.arange(W)[None] * 7.0 + torch.arange(H)[:, None] * 5.0).expand(NUM, 3, H, W)
    forward = forward_maps(knobs, draws, H, W)
    got = move(Batch(images=image, index=draws.index), knobs, draws, "reflect").images
    windows = inverted(forward)
    share_x, share_y = windows[:, 0, 0], windows[:, 1, 1]
    area, stretch = share_x * share_y, share_x / share_y
    assert 0.4 <= float(area.min()) < 0.5
    assert 0.9 < float(area.max()) <= 1
    assert 0.74 < float(stretch.min()) < 0.95
    assert 1.05 < float(stretch.max()) < 1.34
    corner_x = windows[:, 0, 2].abs() + share_x * W / 2
    corner_y = windows[:, 1, 2].abs() + share_y * H / 2
    assert float(corner_x.max()) <= W / 2 + 1e-9
    assert float(corner_y.max()) <= H / 2 + 1e-9
    # On a ramp, bilinear interpolation is exact away from the edge: every pixel tells where it came from.
    x, y = torch.arange(W) + 0.5 - W / 2, torch.arange(H) + 0.5 - H / 2
    from_x = share_x[:, None] * x + windows[:, 0, 2:] + W / 2 - 0.5
    from_y = share_y[:, None] * y + windows[:, 1, 2:] + H / 2 - 0.5
    inner = (from_x.clamp(0, W - 1) == from_x)[:, None, :] & (from_y.clamp(0, H - 1) == from_y)[:, :, None]
    expected = (7 * from_x[:, None, :] + 5 * from_y[:, :, None]).float()
    assert torch.allclose(got[:, 0][inner], expected[inner], atol=1e-2)


def test_flips_and_shifts_give_the_same_through_either_path():
    """The copying path and the interpolating path agree where both can do the work."""
    draws, knobs = draws_and_knobs(flip=0.5, flip_vertical=0.5, shift=4)
    batch = Batch(images=noise(NUM, 3, H, W), masks=noise(NUM, H, W, high=3), index=draws.index)
    for fill in ("reflect", "black"):
        copied = move(batch, knobs, draws, fill)
        warped = warp_batch(batch, forward_maps(knobs, draws, H, W), fill)
        assert torch.allclose(copied.images.float(), warped.images, atol=2e-3)
        assert torch.equal(copied.masks, warped.masks)


def test_boxes_of_flips_and_shifts_by_hand():
    box = torch.tensor([[2.0, 3.0, 6.0, 7.0]])
    mirror = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]], dtype=torch.float64)
    assert move_boxes(box, mirror, 10, 20).tolist() == [[14, 3, 18, 7]]
    shift = torch.tensor([[[1.0, 0, 15], [0, 1, -4]]], dtype=torch.float64)
    assert move_boxes(box, shift, 10, 20).tolist() == [[17, 0, 20, 3]]
    out = torch.tensor([[[1.0, 0, 30], [0, 1, 0]]], dtype=torch.float64)
    assert move_boxes(box, out, 10, 20).tolist() == [[20, 3, 20, 7]]


def test_flips_of_boxes_are_exact_over_a_whole_batch():
    draws, knobs = draws_and_knobs(flip=0.5)
    boxes = torch.tensor([[2.25, 3.5, 6.0, 7.0]]).expand(NUM, 4)
    moved = move(Batch(images=noise(NUM, 3, H, W), boxes=boxes, index=draws.index), knobs, draws, "reflect").boxes
    flipped = _flips(knobs, draws)[0][:, None]
    assert torch.equal(moved, torch.where(flipped, torch.tensor([W - 6.0, 3.5, W - 2.25, 7.0]), boxes))
    assert 15 < int(flipped.sum()) < 45


@pytest.mark.parametrize(("flip", "flip_vertical"), [(0.0, 0.25), (0.25, 0.0), (0.5, 0.5), (0.25, 0.75), (1.0, 0.5)])
def test_an_image_is_mirrored_either_way_in_its_share_of_the_epochs(flip, flip_vertical):
    epochs = 32
    config = AugmentConfig(flip=flip, flip_vertical=flip_vertical)
    across, down = [], []
    for epoch in range(epochs):
        draws = Draws(seed=5, epoch=epoch, index=torch.arange(NUM))
        flips = _flips(knobs_of(config, draws, channels=3, side=H), draws)
        across.append(flips[0])
        down.append(flips[1])
    first, second = torch.stack(across).double(), torch.stack(down).double()
    assert set(first.sum(dim=0).tolist()) == {epochs * flip}
    assert set(second.sum(dim=0).tolist()) == {epochs * flip_vertical}
    assert set((first * second).sum(dim=0).tolist()) == {epochs * flip * flip_vertical}


def test_four_epochs_show_all_four_pictures_of_an_image_that_is_mirrored_half_of_the_time_both_ways():
    config = AugmentConfig(flip=0.5, flip_vertical=0.5)
    for start in range(0, 40, 4):
        draws = [Draws(seed=5, epoch=start + step, index=torch.arange(NUM)) for step in range(4)]
        flips = [_flips(knobs_of(config, drawn, channels=3, side=H), drawn) for drawn in draws]
        pictures = torch.stack([2 * across.long() + down.long() for across, down in flips])
        assert torch.equal(pictures.sort(dim=0).values, torch.arange(4)[:, None].expand(4, NUM))


def test_amounts_fill_their_ranges():
    draws = Draws(seed=0, epoch=0, index=torch.arange(4000))
    knobs = knobs_of(AugmentConfig(rotate=10, shift=3), draws, channels=3, side=28)
    forward = forward_maps(knobs, draws, 28, 28)
    angle = torch.rad2deg(torch.atan2(forward[:, 1, 0], forward[:, 0, 0]))
    assert -10 <= float(angle.min()) < -9.9
    assert 9.9 < float(angle.max()) <= 10
    assert abs(float(angle.mean())) < 0.5
    counts = torch.bincount(forward[:, 0, 2].long() + 3, minlength=7)
    assert len(counts) == 7
    assert int(counts.min()) > 4000 / 7 * 0.8
    assert abs(float(torch.corrcoef(forward[:, :, 2].T)[0, 1])) < 0.07


def test_an_inverse_undoes_its_map():
    draws, knobs = draws_and_knobs(rotate=40, shear=20, scale=0.3, shift=3, crop_area=0.5, flip=0.5)
    maps = forward_maps(knobs, draws, H, W)
    bottom = torch.tensor([[[0.0, 0, 1]]], dtype=torch.float64).expand(NUM, 1, 3)
    product = torch.cat([maps, bottom], 1) @ torch.cat([inverted(maps), bottom], 1)
    assert torch.allclose(product, torch.eye(3, dtype=torch.float64).expand(NUM, 3, 3))


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_larger_images_show_what_smaller_ones_show_in_the_same_place(scale):
    """A ramp packed at two sizes: bilinear interpolation of either is exact away from the edge."""
    draws, knobs = draws_and_knobs(crop_area=0.4, flip=0.5, rotate=20, shift=2)

    def ramp(height, width):
        x, y = (torch.arange(width) + 0.5) * W / width, (torch.arange(height) + 0.5) * H / height
        return (7 * x[None] + 5 * y[:, None]).expand(NUM, 3, height, width)

    large = round(scale * H), round(scale * W)
    boxes = torch.tensor([[6.0, 4.0, 11.0, 8.0]]).repeat(NUM, 1)
    index = draws.index
    smaller = move(Batch(images=ramp(H, W), boxes=boxes, index=index), knobs, draws, "black")
    grown = boxes * torch.tensor([large[1] / W, large[0] / H] * 2)
    larger = move(Batch(images=ramp(*large), boxes=grown, index=index), knobs, draws, "black", (H, W))
    assert larger.images.shape == (NUM, 3, H, W)
    inside = torch.ones(NUM, 3, H, W)
    inner = move(Batch(images=inside, index=index), knobs, draws, "black").images == 1
    assert float(inner.float().mean()) > 0.5
    assert torch.allclose(larger.images[inner], smaller.images[inner], atol=2e-2)
    assert torch.allclose(larger.boxes, smaller.boxes, atol=1e-4)


def test_masks_of_larger_images_follow_them():
    draws, knobs = draws_and_knobs(crop_area=0.4, rotate=20)
    blocks = noise(NUM, 3, 4, high=3).repeat_interleave(4, 1).repeat_interleave(5, 2)[:, :H, :W]
    larger = blocks.repeat_interleave(3, 1).repeat_interleave(3, 2)
    shown = {m: Batch(images=m[:, None].float(), masks=m, index=draws.index) for m in (blocks, larger)}
    expected = move(shown[blocks], knobs, draws, "reflect")
    found = move(shown[larger], knobs, draws, "reflect", (H, W))
    assert found.masks.shape == (NUM, H, W)
    assert float((found.masks == expected.masks).float().mean()) > 0.97  # pixels at the edge of a block


def test_a_crop_of_a_larger_image_is_sharper():
    """Stripes of one pixel survive a crop of half the sides only where there are more pixels to crop from."""
    draws, knobs = draws_and_knobs(crop_area=0.3)
    stripes = (torch.arange(8 * W) // 4 % 2 * 255.0).expand(NUM, 1, 8 * H, 8 * W)
    large, small = resize_images(stripes, 4 * H, 4 * W), resize_images(stripes, H, W)
    found = [
        move(Batch(images=images, index=draws.index), knobs, draws, "reflect", (H, W)).images.std()
        for images in (large, small)
    ]
    assert found[0] > 2 * found[1]


def test_larger_images_that_no_knob_interpolates_are_resized():
    draws, knobs = draws_and_knobs(flip=0.5, shift=2)
    batch = Batch(images=noise(NUM, 3, 2 * H, 2 * W), masks=noise(NUM, 2 * H, 2 * W, high=3), index=draws.index)
    found = move(batch, knobs, draws, "reflect", (H, W))
    expected = move(resized(batch, H, W), knobs, draws, "reflect")
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.masks, expected.masks)
