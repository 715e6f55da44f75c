"""Near duplicates: pairs of images of the same scene, shifted a little, recoloured, sharpened or recompressed.

Two steps. Candidates: 8x8 colour thumbnails, mean removed and scaled to unit length, compared by matrix products; of
each block of images the best one is kept. Verification: the correlation of the fine detail (grey, local mean removed)
of 32x32 thumbnails at the best of 49 shifts by up to 3 pixels, once with a wide and once with a narrow local mean:
flowers of one species agree in the first and differ in the second. Images with merely similar backgrounds (sky
over sea) pass the first step and fail the second.

Blocks are compared with blocks, and what 20,000 images or more need lies in files without a name (`io/spill.py`), so
memory does not grow with the set: 3.8 kB of disk an image. The work grows with its square: `benchmarks/near_many.py`.

Measured on the published train and test splits: 3.9 % of CIFAR-10's test images (4.2 % without the narrow mean). On
flowers, 32 of 34 pairs are copies by eye (34 of 40 without it); the labels of 82 pairs are in
`tests/data/flower_pairs.csv`, by one observer who saw the scores, and the narrow threshold was chosen on them. Of 1,000
flowers each as JPEG of quality 50, at 20 px, noisy or brighter, 98 to 100 % are found (100 % without it); mirror images
are not searched for.
ciFAIR (arXiv 1902.00423) counts 3.3 % and 10 % with features of a trained network and human judgement; it takes images
that are "very similar" without being the same scene, of which CIFAR-100 has many, and drops similar but distinct ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, normalize, pad

from opsin.data.samples import Bytes, Ints, chunks
from opsin.io import spill

THUMB = 32
"""Side of the thumbnails that are compared."""
COARSE = 8
MAX_SHIFT = 3
DETAIL_WINDOW = 7
FINE_WINDOW = 3
"""Side of the window of the local mean that is subtracted to leave the detail."""
MIN_COARSE = 0.8
MIN_DETAIL = 0.65
"""Least correlation of detail of near duplicates."""
MIN_FINE = 0.45
"""Least correlation of the finest detail of near duplicates."""
NUM_CANDIDATES = 5
NUM_WITHIN = 2
"""Candidates per image in another split, and in its own, where chains of copies are found link by link."""
BLOCK = 4096
ROWS = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Near duplicates: `first[k]` is similar to `second[k]`, int64 indices; `likeness` float32 in [MIN_DETAIL, 1]."""

    first: Ints
    second: Ints
    likeness: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)


def near_pairs(first: Bytes, second: Bytes | None = None, *, advance: Callable[[int], None] | None = None) -> Pairs:
    """Near duplicates between two sets of thumbnails, or within one.

    Args:
        first: uint8 `[N, 3, 32, 32]`.
        second: uint8 `[M, 3, 32, 32]`; None compares `first` with itself, each pair once.
        advance: called with the number of images of `first` that are done.
    """
    within = second is None
    others = first if second is None else second
    ours = coarse(first)
    theirs = ours if second is None else coarse(others)
    found: list[tuple[Ints, Ints, NDArray[np.float32]]] = []
    for rows in chunks(len(first), ROWS):
        i, j = _candidates(ours[rows], theirs, rows.start if within else None)
        i += rows.start
        found.append(_verified(first, others, i, j))
        if advance is not None:
            advance(rows.stop)
    if not found:
        return Pairs(first=np.zeros(0, np.int64), second=np.zeros(0, np.int64), likeness=np.zeros(0, np.float32))
    i, j, likeness = (np.concatenate(part) for part in zip(*found, strict=True))
    return Pairs(first=i, second=j, likeness=likeness)


def _verified(first: Bytes, others: Bytes, i: Ints, j: Ints) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """The pairs (i, j) whose detail agrees, and their correlation."""
    likeness = detail_correlation(torch.from_numpy(first[i]), torch.from_numpy(others[j])).numpy()
    alike = likeness >= MIN_DETAIL
    i, j, likeness = i[alike], j[alike], likeness[alike]
    alike = detail_correlation(torch.from_numpy(first[i]), torch.from_numpy(others[j]), FINE_WINDOW).numpy() >= MIN_FINE
    return i[alike], j[alike], likeness[alike]


def coarse(thumbs: Bytes) -> Tensor:
    """Unit-length descriptors, float32 `[N, 192]`: 8x8 colour means, mean removed; flat images are 0."""
    found = torch.from_numpy(spill.zeros((len(thumbs), 3 * COARSE * COARSE), np.float32))
    for rows in chunks(len(thumbs), ROWS):
        pooled = adaptive_avg_pool2d(torch.from_numpy(np.array(thumbs[rows])).float(), COARSE).flatten(1)
        found[rows] = normalize(pooled - pooled.mean(1, keepdim=True), dim=1)
    return found


def _candidates(ours: Tensor, theirs: Tensor, start: int | None) -> tuple[Ints, Ints]:
    """Pairs (row of `ours`, row of `theirs`) to verify: the best of each block, and of these the best few.

    With `start`, `ours` are rows `start`... of `theirs`, and only later rows count.
    """
    blocks = [block for block in chunks(len(theirs), BLOCK) if start is None or block.stop > start]
    # of one size and made once: the C allocator would leave a hole of that size for each product
    products = torch.empty(len(ours), BLOCK)
    value, number = torch.empty(len(ours), len(blocks)), torch.empty(len(ours), len(blocks), dtype=torch.int64)
    for k, block in enumerate(blocks):
        likeness = products[:, : block.stop - block.start]
        torch.mm(ours, theirs[block].T, out=likeness)
        if start is not None and block.start < start + len(ours):
            row = torch.arange(start, start + len(ours))[:, None]
            likeness.masked_fill_(torch.arange(block.start, block.stop) <= row, -1.0)
        best = likeness.max(1)
        value[:, k], number[:, k] = best.values, best.indices + block.start
    top = value.topk(min(NUM_CANDIDATES if start is None else NUM_WITHIN, value.shape[1]), 1)
    i, of = torch.nonzero(top.values > MIN_COARSE, as_tuple=True)
    return i.numpy(), number[i, top.indices[i, of]].numpy()


def detail(thumbs: Tensor, window: int = DETAIL_WINDOW) -> Tensor:
    """Fine detail of `[B, 3, 32, 32]`: grey minus its mean over `window` pixels a side, float32 `[B, 32, 32]`."""
    grey = thumbs.float().mean(1, keepdim=True)
    margin = window // 2
    return (grey - avg_pool2d(pad(grey, (margin,) * 4, mode="reflect"), window, 1))[:, 0]


def detail_correlation(first: Tensor, second: Tensor, window: int = DETAIL_WINDOW) -> Tensor:
    """Best correlation of the detail of pairs over all shifts by up to 3 pixels.

    The middle 26x26 pixels of `first` are compared with each 26x26 window of `second`, by Fourier transform.

    Args:
        first, second: uint8 `[B, 3, 32, 32]`.
        window: side of the window of the local mean.

    Returns:
        float32 `[B]` in [-1, 1]; 0 where there is no detail.
    """
    if not len(first):  # MKL refuses the Fourier transform of an empty batch: pytorch issue 174984
        return torch.zeros(0)
    core, side = detail(first, window)[:, MAX_SHIFT:-MAX_SHIFT, MAX_SHIFT:-MAX_SHIFT], THUMB - 2 * MAX_SHIFT
    core = core - core.mean((1, 2), keepdim=True)
    other = detail(second, window)
    spectrum = torch.fft.rfft2(other) * torch.fft.rfft2(core, s=(THUMB, THUMB)).conj()
    products = torch.fft.irfft2(spectrum, s=(THUMB, THUMB))[:, : 2 * MAX_SHIFT + 1, : 2 * MAX_SHIFT + 1]
    mean = avg_pool2d(other[:, None], side, 1)[:, 0]
    variance = (avg_pool2d(other[:, None] ** 2, side, 1)[:, 0] - mean**2).clamp_min(0)
    lengths = core.flatten(1).norm(dim=1)[:, None, None] * (variance * side * side).sqrt()
    correlation = torch.where(lengths > 1e-3, products / lengths.clamp_min(1e-3), 0.0)
    return correlation.flatten(1).amax(1).clamp(-1, 1)
