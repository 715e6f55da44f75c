"""The reach of a pixel-wise network: the receptive field of its logits, measured.

The reach is measured, not derived: one position of the image is NaN, and every value computed from it is NaN too,
whatever the weight. So it is valid for every network that can be run.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

LONGEST_PX = 4096
"""Longest strip that is tried: a larger reach counts as global, e.g. a mean over the whole image."""
FIRST_PX = 256


@torch.no_grad()
def reach(network: nn.Module, channels: int, stride: int) -> int | None:
    """Pixels by which the receptive field of a pixel's logits extends to any side, or None if it is global.

    Args:
        network: float [1, C, H, W] to {"logits": float [1, K, H, W]}, for any H and W.
        channels: C.
        stride: downscaling of its coarsest maps; the reach is the largest over all positions in one stride.
    """
    probe = deepcopy(network).float().cpu().eval()
    found = [_reach_along(probe, channels, stride, across) for across in (False, True)]
    return None if None in found else max(side for side in found if side is not None)


def _reach_along(network: nn.Module, channels: int, stride: int, across: bool) -> int | None:
    """The reach in a strip whose one block of `stride` pixels in the middle is NaN, down or across the image."""
    length = max(FIRST_PX, 4 * stride)
    while length <= LONGEST_PX:
        begin = length // (2 * stride) * stride
        strip = torch.zeros(1, channels, length, stride)
        strip[:, :, begin : begin + stride] = torch.nan
        logits: Tensor = network(strip.transpose(2, 3) if across else strip)["logits"]
        touched = (logits.transpose(2, 3) if across else logits).isnan().any(dim=1)[0].any(dim=1).nonzero()
        first, last = int(touched.min()), int(touched.max())
        if first > 0 and last < length - 1:
            return max(begin - first, last - (begin + stride - 1))
        length *= 2
    return None
