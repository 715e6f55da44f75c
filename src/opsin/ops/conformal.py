"""Prediction sets that hold the true class as often as asked, and how unusual an image's score is. numpy, float64.

The method is split conformal prediction with the score 1 - p of the true class ("least ambiguous sets"): of all sets
with that coverage it gives the smallest on average. The promise needs one thing: that new images come from where the
calibration images come from. It is over all images; a hard class may be covered less often.

A set may be empty. A network that is right in 99 % needs no class at all for some images to be right in 95 %: those are
the images on which it is least sure.

Shapes: N samples, K classes.

Source: Sadinle, Lei, Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels"; Angelopoulos
and Bates 2021, arXiv 2107.07511, section 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opsin.ops.intervals import Floats


def conformal_threshold(true_class: ArrayLike, coverage: float) -> float:
    """The least probability of a class with which it belongs into the set.

    Args:
        true_class: floating [N], probability that the network gave to the true class of each calibration image.
        coverage: share of sets that are to hold the true class, 0 < x < 1.

    Returns:
        The n + 1 - ceil((n + 1) coverage)-th smallest probability; 0, with which every class belongs into every set,
        where so few images cannot promise that much.

    >>> conformal_threshold([0.9, 0.8, 0.7, 0.6, 0.1], 0.8)
    0.1
    >>> conformal_threshold([0.9, 0.8, 0.7, 0.6, 0.1], 0.5)
    0.7
    """
    ordered = np.sort(np.asarray(true_class, np.float64))
    position = len(ordered) - math.ceil((len(ordered) + 1) * coverage - 1e-9)
    return float(ordered[position]) if position >= 0 else 0.0


def prediction_sets(probabilities: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Which classes belong into the set of each image: bool [N, K] of probabilities [N, K]."""
    found: NDArray[np.bool_] = probabilities >= threshold
    return found


def coverage_interval(num_samples: int, coverage: float, *, level: float = 0.95) -> tuple[float, float]:
    """Where the coverage on endless further images lies, which depends on the calibration images by chance.

    Args:
        num_samples: calibration images.
        coverage: that was asked for.

    Returns:
        Lower and upper end of the middle `level`.

    Source: Vovk 2012, arXiv 1209.2673, proposition 2a: a beta distribution.

    >>> low, high = coverage_interval(1000, 0.95)
    >>> f"{low:.3f} {high:.3f}"
    '0.936 0.963'
    """
    from scipy import special  # slow to import, and not needed before training

    missed = num_samples + 1 - math.ceil((num_samples + 1) * coverage - 1e-9)
    if missed <= 0:
        return 1.0, 1.0
    held = num_samples + 1 - missed
    low, high = special.betaincinv(held, missed, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def conformal_p(reference: ArrayLike, values: ArrayLike) -> Floats:
    """Share of the reference images, and the image itself, that are as unusual as it: small for an unusual one.

    Of images from where the reference images come from, at most a share x has a value of x or less.

    Args:
        reference: floating [R], larger is more unusual.
        values: floating [N], of the same score.

    Returns:
        float64 [N], 1 / (R + 1) to 1.

    >>> conformal_p([1.0, 2.0, 3.0], [2.5, 4.0]).tolist()
    [0.5, 0.25]

    Source: Bates et al. 2023, arXiv 2104.08279, equation 2.
    """
    ordered = np.sort(np.asarray(reference, np.float64))
    below = np.searchsorted(ordered, np.asarray(values, np.float64), side="left")
    return np.asarray((1.0 + len(ordered) - below) / (len(ordered) + 1.0), np.float64)
