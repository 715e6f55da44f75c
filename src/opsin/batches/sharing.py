"""Which rows of a step's batch a process computes, where several share it.

    the batch of a step      0 1 2 3 | 4 5 6 | 7 8 9        the same for any number of processes
    process                  0         1       2            parts in order, of about equal size

A sample's picture does not depend on who computes it: a process that needs images of other shares, to mix its own with
them, gathers and augments those as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from opsin.batches.batch import Share
from opsin.group import Group

Ring = Callable[[Tensor], Tensor]
"""Gives for the sample numbers of a batch, int64 [B], the place of the one that each is mixed with, int64 [B]."""


@dataclass(frozen=True, kw_only=True)
class OwnRows:
    """What a process gathers of a step: `index`, int64, sample numbers; the rest as in `Batch`."""

    index: Tensor
    share: Share | None = None
    partners: Tensor | None = None


def own_rows(index: Tensor, group: Group, ring: Ring | None = None) -> OwnRows:
    """The rows of one process.

    Args:
        index: int64 [B], sample numbers of the whole batch.
        group: of the process.
        ring: who is mixed with whom; None where images are not mixed.
    """
    if group.alone:
        return OwnRows(index=index)
    own = torch.arange(len(index))[group.own_part(len(index))]
    share = Share(counted=len(own), whole=len(index))
    if not share.counted:  # stands in, and counts nothing: every process takes part in every step
        own = torch.zeros(1, dtype=torch.int64)
    if ring is None:
        return OwnRows(index=index[own], share=share)
    partner = ring(index)[own]
    others = sorted({*partner.tolist()} - {*own.tolist()})
    rows = torch.cat([own, torch.tensor(others, dtype=torch.int64)])
    place = torch.empty(len(index), dtype=torch.int64)
    place[rows] = torch.arange(len(rows))
    return OwnRows(index=index[rows], share=share, partners=place[partner])
