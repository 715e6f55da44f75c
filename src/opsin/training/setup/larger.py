"""The size at which training photos are packed for augmentation: larger than the input, where crops would enlarge them.

A random crop of half the area of a photo packed at the input's size is enlarged 1.4 times: it is blurred, as no photo
of val is. So photos that are augmented in this way are packed at the input's size and once more `pack_scale` times as
large, from which the one interpolation of augmentation reads. Everything else sees the first: the contract,
features, leaks, val and test.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from opsin.batches.policy import resamples
from opsin.config import RunConfig
from opsin.data.samples import Dataset, Source
from opsin.errors import InputError
from opsin.ops.resize import place
from opsin.training.features import is_cached
from opsin.training.setup.resolving import size_policy
from opsin.types import SizePolicy

NUM_PROBED = 24
"""Number of photos whose sizes are read, spread over the training split."""
WORTHWHILE = 1.05
"""Photos that are larger than the input by less are not packed twice."""


def larger_policy(dataset: Dataset, config: RunConfig) -> SizePolicy | None:
    """The second size at which training photos are packed; None where none would be of use.

    None without augmentation that interpolates, with features that are computed once, and where photos are no larger
    than the input. Photos somewhat larger are packed at their own size.
    """
    wanted, policy = config.data.pack_scale, size_policy(dataset, config)
    if wanted <= 1 or policy is None or not resamples(config.augment) or is_cached(config, dataset.task):
        return None
    scale = min(wanted, photo_scale(dataset.splits["train"], policy))
    if scale < WORTHWHILE:
        return None
    return replace(policy, height=round(scale * policy.height), width=round(scale * policy.width))


def photo_scale(source: Source, policy: SizePolicy) -> float:
    """Pixels of the median photo along a side, for each pixel of the input that it is fitted into."""
    if source.size is not None:
        return _scale(source.size, policy)
    found = []
    for i in np.linspace(0, len(source) - 1, min(NUM_PROBED, len(source))).astype(int):
        try:
            found.append(_scale(source.read(int(i), lambda height, width: (1, 1)).size, policy))
        except InputError:
            continue  # it is named when the split is packed
    return float(np.median(found)) if found else 1.0


def _scale(size: tuple[int, int], policy: SizePolicy) -> float:
    placement = place(*size, policy)
    return 1 / max(placement.scale_y, placement.scale_x)
