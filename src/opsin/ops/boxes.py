"""Boxes: overlap, conversions and the losses of box regression, for numpy arrays and torch tensors alike.

A box is (x1, y1, x2, y2) in any one unit, x2 and y2 exclusive, so that its area is (x2 - x1) · (y2 - y1). Boxes are
compared row by row: `[..., 4]` with `[..., 4]` gives `[...]`. A box whose corners are swapped has no area.

| loss | 1 minus | sees a distance between boxes that do not touch | also pulls on |
|---|---|---|---|
| iou | overlap / union | no | |
| giou | IoU - (hull - union) / hull | yes | |
| diou | IoU - (distance of centres / diagonal of hull)² | yes | centres |
| ciou | DIoU - α v, v from the aspect ratios | yes | centres, aspect ratio |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Boxes = TypeVar("Boxes", Tensor, NDArray[np.float32], NDArray[np.float64])

TINY = 1e-12
"""Keeps a quotient of areas defined where both are zero."""
SMOOTH_BETA = 0.02
"""Where smooth L1 turns from a parabola into a line, as a share of the image's sides."""


def area(boxes: Boxes) -> Boxes:
    """Areas `[...]` of boxes `[..., 4]`; 0 where the corners are swapped."""
    return _on_tensors(_area, boxes)


def iou(boxes: Boxes, others: Boxes) -> Boxes:
    """Intersection over union, 0 to 1; 0 where neither box has an area.

    >>> iou(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])).item()
    0.3333333333333333

    Source: Jaccard 1912, "The distribution of the flora in the alpine zone".
    """
    return _on_tensors(lambda a, b: _overlap(a, b)[0], boxes, others)


def giou(boxes: Boxes, others: Boxes) -> Boxes:
    """Generalized IoU, -1 to 1: IoU less the share of the hull that neither box covers.

    Source: Rezatofighi et al. 2019, arXiv 1902.09630, algorithm 1.
    """
    return _on_tensors(_giou, boxes, others)


def diou(boxes: Boxes, others: Boxes) -> Boxes:
    """Distance IoU, -1 to 1: IoU less the squared distance of the centres in diagonals of the hull.

    Source: Zheng et al. 2019, arXiv 1911.08287, equation 7.
    """
    return _on_tensors(_diou, boxes, others)


def ciou(boxes: Boxes, others: Boxes) -> Boxes:
    """Complete IoU: distance IoU less α v, where v is the difference of the aspect ratios.

    The value is torchvision's. Its gradient is the whole one, through α too, which the paper and torchvision hold
    constant: so the loss that is descended is the loss that is shown.

    Source: Zheng et al. 2019, arXiv 1911.08287, equations 8 to 11.
    """
    return _on_tensors(_ciou, boxes, others)


def centre_errors(boxes: Boxes, others: Boxes) -> Boxes:
    """Distance between the centres, `[...]`, in the boxes' unit."""
    return _on_tensors(lambda a, b: (_centres(a) - _centres(b)).norm(dim=-1), boxes, others)


def size_errors(boxes: Boxes, others: Boxes) -> Boxes:
    """Mean of the absolute errors of width and height, `[...]`, in the boxes' unit."""
    return _on_tensors(lambda a, b: (_sides(a) - _sides(b)).abs().mean(dim=-1), boxes, others)


def xyxy_to_cxcywh(boxes: Boxes) -> Boxes:
    """(x1, y1, x2, y2) as (centre x, centre y, width, height)."""
    return _on_tensors(lambda b: torch.cat([(b[..., :2] + b[..., 2:]) / 2, b[..., 2:] - b[..., :2]], dim=-1), boxes)


TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""How an EXIF orientation is undone: whether rows and columns are swapped, then mirrored across, then down."""


def upright_boxes(boxes: Boxes, orientation: int, height: int, width: int) -> Boxes:
    """Boxes of an image's stored pixels, in the pixels of the image after its EXIF orientation has been undone.

    Args:
        boxes: [..., 4] xyxy.
        orientation: 1 to 8.
        height, width: of the stored image.

    Source: EXIF 2.32, tag 0x0112.
    """
    swapped, across, down = TURNS[orientation]

    def turned(stored: Tensor) -> Tensor:
        x1, y1, x2, y2 = stored.unbind(dim=-1)
        sides = (width, height)
        if swapped:
            x1, y1, x2, y2, sides = y1, x1, y2, x2, (height, width)
        if across:
            x1, x2 = sides[0] - x2, sides[0] - x1
        if down:
            y1, y2 = sides[1] - y2, sides[1] - y1
        return torch.stack([x1, y1, x2, y2], dim=-1)

    return _on_tensors(turned, boxes)


def box_losses(name: str, boxes: Tensor, targets: Tensor) -> Tensor:
    """One of `LOSSES` for each box, 0 where the boxes agree.

    Args:
        name: mse, smooth_l1, iou, giou, diou or ciou.
        boxes: floating [B, 4], xyxy as shares of the image's sides; the losses by overlap need no particular unit.
        targets: floating [B, 4], in the same unit.

    Returns:
        floating [B].
    """
    return LOSSES[name](boxes, targets)


def smooth_l1(boxes: Tensor, targets: Tensor) -> Tensor:
    """Mean over the coordinates of d² / 2β where the error d is less than β, else d - β/2: floating [B].

    Source: Girshick 2015, arXiv 1504.08083, equation 3; with a width β, as torch's `smooth_l1_loss`.
    """
    return functional.smooth_l1_loss(boxes, targets, reduction="none", beta=SMOOTH_BETA).mean(dim=-1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda boxes, targets: (boxes - targets).square().mean(dim=-1),
    "smooth_l1": smooth_l1,
    "iou": lambda boxes, targets: 1 - iou(boxes, targets),
    "giou": lambda boxes, targets: 1 - giou(boxes, targets),
    "diou": lambda boxes, targets: 1 - diou(boxes, targets),
    "ciou": lambda boxes, targets: 1 - ciou(boxes, targets),
}
"""The losses of box regression by name: floating [B] from boxes and targets [B, 4]."""


def weighted_by_uncertainty(losses: Tensor, log_variances: Tensor) -> Tensor:
    """The sum of losses, each with a weight that is learned: Σ exp(-s) L + s / 2.

    At the best s the weight of a loss is 1 / (2 L): a loss that is small anyway counts as much as a large one.

    Args:
        losses: floating [n], 0 or more.
        log_variances: floating [n], the s, which are trained with the network's weights.

    Source: Kendall, Gal, Cipolla 2018, arXiv 1705.07115, equation 10, with s = log σ².
    """
    return (torch.exp(-log_variances) * losses + log_variances / 2).sum()


def _on_tensors(formula: Callable[..., Tensor], *boxes: Boxes) -> Boxes:
    """Tensors as they are; arrays by way of float64 tensors, as float64 arrays."""
    if isinstance(boxes[0], Tensor):
        return formula(*boxes)
    found: Boxes = formula(*(torch.from_numpy(np.asarray(array, np.float64)) for array in boxes)).numpy()
    return found


def _sides(boxes: Tensor) -> Tensor:
    return boxes[..., 2:] - boxes[..., :2]


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _area(boxes: Tensor) -> Tensor:
    return _sides(boxes).clamp_min(0).prod(dim=-1)


def _overlap(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union."""
    top_left = torch.maximum(boxes[..., :2], others[..., :2])
    bottom_right = torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (bottom_right - top_left).clamp_min(0).prod(dim=-1)
    union = _area(boxes) + _area(others) - shared
    return shared / union.clamp_min(TINY), union


def _hull_sides(boxes: Tensor, others: Tensor) -> Tensor:
    """Width and height of the smallest box around both."""
    return torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])


def _giou(boxes: Tensor, others: Tensor) -> Tensor:
    overlap, union = _overlap(boxes, others)
    hull = _hull_sides(boxes, others).clamp_min(0).prod(dim=-1)
    return overlap - (hull - union) / hull.clamp_min(TINY)


def _diou(boxes: Tensor, others: Tensor) -> Tensor:
    distance = (_centres(boxes) - _centres(others)).square().sum(dim=-1)
    diagonal = _hull_sides(boxes, others).square().sum(dim=-1)
    return _overlap(boxes, others)[0] - distance / diagonal.clamp_min(TINY)


def _ciou(boxes: Tensor, others: Tensor) -> Tensor:
    overlap = _overlap(boxes, others)[0]
    difference = (4 / math.pi**2) * (_slants(boxes) - _slants(others)).square()
    trade = difference / (1 - overlap + difference).clamp_min(TINY)
    return _diou(boxes, others) - trade * difference


def _slants(boxes: Tensor) -> Tensor:
    """Angle of each box's diagonal from the vertical, `[...]`; 0 for a point, where PyTorch 2.9 has no gradient."""
    width, height = _sides(boxes).unbind(-1)
    is_point = (width == 0) & (height == 0)
    return torch.atan2(width, torch.where(is_point, torch.ones_like(height), height))
