"""Suspects: labels that are likely wrong, copies with different labels, images unlike their class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from opsin.cleaning.probabilities import Judged
from opsin.data.samples import Ints
from opsin.errors import RefusedError
from opsin.ops.label_noise import LabelNoise, fit_label_noise
from opsin.types import JsonDict

WRONG = 0.5
"""Least probability of being wrong of a suspected label."""
RULES = ("prune_by_noise_rate", "prune_by_class", "predicted_neq_given")
"""Rules of confident learning whose candidates are combined."""
NEIGHBOURS = 5
OUTLYING = 5.0
"""Least distance of an image from its class, in median absolute deviations, to be shown."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A sample to look at.

    `row`: its index among the development samples. `label`: as given. `suggestion`: the likeliest class out of fold,
    with its `probability`; `quality`: probability of the given label. `wrong`: probability that the label is wrong.
    `reasons`: label, copy or unlike. `copies`: ids of copies with other labels.
    """

    row: int
    id: str
    split: str
    label: str
    suggestion: str
    probability: float
    quality: float
    wrong: float
    reasons: tuple[str, ...]
    copies: tuple[str, ...] = ()

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        return asdict(self)


def wrong_labels(judged: Judged, labels: Ints) -> tuple[NDArray[np.bool_], LabelNoise]:
    """Which of N labels are suspected, bool [N], and the probability that each is wrong.

    Candidates by confident learning; of these the ones that are wrong with a probability of `WRONG` or more under
    uniform label noise (`ops/label_noise.py`): confident learning alone also flags merely hard images.

    Args:
        judged: with probabilities [N, K].
        labels: int64 [N].

    Raises:
        RefusedError: cleanlab is not installed.

    Source: Northcutt et al. 2021, arXiv 1911.00068 (confident learning, by cleanlab).
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        do = "pip install 'opsin[clean]'"
        raise RefusedError("ranking suspects needs the package cleanlab", do=do) from error
    noise = fit_label_noise(judged.probabilities, labels)
    shares = judged.probabilities.astype(np.float64)
    # each rule alone misses some where a class has few wrong labels: its count of them is rounded
    found = [np.asarray(find_label_issues(labels, shares, filter_by=rule, n_jobs=1), bool) for rule in RULES]
    return np.logical_or.reduce(found) & (noise.wrong >= WRONG), noise


def different_copies(groups: Ints, labels: Ints) -> Iterator[Ints]:
    """Rows of each group of copies that has more than one label.

    Args:
        groups: int64 [N], for each sample the representative of its copies.
        labels: int64 [N].
    """
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0])
    for rows in np.split(order, starts[1:]):
        if len(rows) > 1 and len(np.unique(labels[rows])) > 1:
            yield rows


def unlike_class(features: NDArray[np.float32], labels: Ints) -> NDArray[np.float64]:
    """Excess distance of each image from its class, in median absolute deviations of the class.

    The distance is the mean over the nearest `NEIGHBOURS` other images of the class, of unit-length features.

    Args:
        features: float32 [N, F].
        labels: int64 [N].

    Returns:
        float64 [N]; -inf in a class with too few images.
    """
    found = np.full(len(labels), -math.inf)
    unit = normalize(torch.from_numpy(features), dim=1)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) <= 2 * NEIGHBOURS:
            continue
        own = unit[torch.from_numpy(rows)]
        # the first neighbour is the image itself
        near = (own @ own.T).topk(NEIGHBOURS + 1, dim=1).values[:, 1:]
        distance = (1 - near.mean(1)).double().numpy()
        middle = np.median(distance)
        found[rows] = (distance - middle) / max(float(np.median(np.abs(distance - middle))), 1e-9)
    return found
