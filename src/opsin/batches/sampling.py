"""Whole-batch resampling of images and masks, along the maps of `geometry`.

`slide` copies pixels exactly (flips and whole-pixel shifts). `warp` interpolates (everything else). Both reflect about
the centre of the edge pixel (d c b | a b c d | c b a), or fill with one value.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

FillName = Literal["reflect", "black"]


def slide(
    pixels: Tensor, *, flip: Tensor, flip_vertical: Tensor, down: Tensor, right: Tensor, fill: FillName, value: int
) -> Tensor:
    """Mirror each image, then shift it by whole pixels.

    Args:
        pixels: [B, C, H, W] of any dtype.
        flip, flip_vertical: bool [B] on the CPU, as are the shifts.
        down, right: int64 [B], pixels; less than H and W.
        fill: fill at the edge; `value` where it is black.

    Returns:
        [B, C, H, W] of the same dtype, every pixel a copy of one in `pixels` or `value`.
    """
    B, C, H, W = pixels.shape
    reach = int(right.abs().max())
    table = _padded(_mirrored(pixels, flip), reach, fill, value).reshape(-1)
    width = W + 2 * reach
    # A row of the result is W consecutive pixels of a padded row: copying rows is far faster than picking pixels.
    rows_BH = torch.arange(H)[None] - down[:, None]
    inside_BH = (rows_BH >= 0) & (rows_BH < H)
    rows_BH = _reflected(rows_BH, H)
    rows_BH = torch.where(flip_vertical[:, None], H - 1 - rows_BH, rows_BH)
    planes_BC = torch.arange(B * C).view(B, C)
    starts_BCH = (planes_BC[:, :, None] * H + rows_BH[:, None]) * width + (reach - right)[:, None, None]
    if fill == "black":
        starts_BCH = torch.where(inside_BH[:, None], starts_BCH, table.numel())
        table = torch.cat([table, table.new_full((W,), value)])
    windows = table.as_strided((table.numel() - W + 1, W), (1, 1))
    return windows.index_select(0, starts_BCH.reshape(-1).to(pixels.device)).view(B, C, H, W)


def _mirrored(pixels: Tensor, flip: Tensor) -> Tensor:
    """The chosen images mirrored left and right; `flip` is bool [B]."""
    chosen = flip.nonzero()[:, 0].to(pixels.device)
    if len(chosen) == 0:
        return pixels
    return pixels.index_copy(0, chosen, pixels.index_select(0, chosen).flip(3))


def _padded(pixels: Tensor, reach: int, fill: FillName, value: int) -> Tensor:
    """`reach` more pixels on the left and on the right: [B, C, H, W + 2 * reach]."""
    if reach == 0:
        return pixels
    if fill == "black":
        return functional.pad(pixels, (reach, reach), value=value)
    # F.pad does not reflect uint8.
    left, right = pixels[..., 1 : reach + 1].flip(3), pixels[..., -reach - 1 : -1].flip(3)
    return torch.cat([left, pixels, right], dim=3)


def _reflected(position: Tensor, length: int) -> Tensor:
    """Whole positions in (-length, 2 * length - 1) reflected into [0, length)."""
    return length - 1 - (length - 1 - position.abs()).abs()


def grid_of(backward: Tensor, height: int, width: int, source: tuple[int, int] | None = None) -> Tensor:
    """The source position of each result pixel, for `warp`.

    Args:
        backward: float64 [B, 2, 3], affine maps from the result to the source, in pixels from the centre of the image.
        height, width: of the result, and the pixels in which the maps are.
        source: height and width of the images that are resampled, where they show the same in more pixels.

    Returns:
        float32 [B, H, W, 2], (x, y); -1 and 1 are the centres of the first and the last pixel.
    """
    # Sums and products one by one rather than a matrix product, whose rounding may depend on the size of the batch.
    x_W = torch.arange(width, dtype=torch.float64, device=backward.device) - (width - 1) / 2
    y_H = torch.arange(height, dtype=torch.float64, device=backward.device) - (height - 1) / 2
    grid = torch.empty(len(backward), height, width, 2, device=backward.device)
    for axis, unit in enumerate(grid_units((height, width), source)):
        a, b, offset = (backward[:, axis] * unit).unbind(dim=1)
        along_BW = (a[:, None] * x_W).to(torch.float32)
        across_BH = (b[:, None] * y_H + offset[:, None]).to(torch.float32)
        torch.add(along_BW[:, None, :], across_BH[:, :, None], out=grid[..., axis])
    return grid


def grid_units(size: tuple[int, int], source: tuple[int, int] | None = None) -> tuple[float, float]:
    """Units of a grid, x first, that are one pixel of an image of `size` (height, width) in one of `source`."""
    (height, width), (rows, columns) = size, source or size
    return 2 * (columns / width) / max(columns - 1, 1), 2 * (rows / height) / max(rows - 1, 1)


def warp(pixels: Tensor, grid: Tensor, *, mode: Literal["bilinear", "nearest"], fill: FillName, value: int) -> Tensor:
    """Resample each image once.

    Args:
        pixels: float32 [B, C, H, W], whole numbers if `mode` is nearest.
        grid: from `grid_of`, [B, h, w, 2].
        fill: the outside; `value` where it is black.

    Returns:
        float32 [B, C, h, w].
    """
    padding = "reflection" if fill == "reflect" else "zeros"
    shifted = pixels - value if value else pixels
    sampled = functional.grid_sample(shifted, grid, mode=mode, padding_mode=padding, align_corners=True)
    return sampled + value if value else sampled
