"""Answers for the images that a network is sure of, and none for the others. numpy, float64.

The risk is the share of wrong answers among the images that get one; the coverage is the share that gets one.

Shapes: N samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.ops.intervals import Floats

CERTAINTY = 0.95
STARTS = 4
"""Numbers of answers from which on a threshold is looked for: with one, a single confident mistake would end it."""


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """Coverage and risk when images are answered in the order of their confidence, each [N]; the surest come first."""

    coverage: Floats
    risk: Floats

    @property
    def area(self) -> float:
        """Mean risk over all coverages (AURC): 0 where every mistake is less sure than every right answer and few."""
        return float(self.risk.mean())


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """Answer where the confidence is above `threshold`: 0 where everything is answered.

    `coverage`: share of the N images that are answered. `risk`: wrong answers among them. `bound`: upper end of the
    risk's own one-sided interval. `answered`: their number.
    """

    threshold: float
    coverage: float
    risk: float
    bound: float
    answered: int


def risk_coverage(confidences: NDArray[np.floating], correct: NDArray[np.bool_]) -> RiskCoverage:
    """The risk-coverage curve of confidences [N] and whether each prediction was right [N].

    Source: El-Yaniv and Wiener 2010, "On the foundations of noise-free selective classification".
    """
    order = np.argsort(-confidences, kind="stable")
    answered = np.arange(1, len(order) + 1)
    return RiskCoverage(coverage=answered / len(order), risk=np.cumsum(~correct[order]) / answered)


def risk_bound(wrong: int, answered: int, *, certainty: float = CERTAINTY) -> float:
    """Upper end of the one-sided exact interval of a share: 1 without a trial.

    >>> f"{risk_bound(0, 59):.4f}"
    '0.0495'

    Source: Clopper and Pearson 1934.
    """
    from scipy import special  # slow to import, and not needed before training

    return 1.0 if wrong >= answered else float(special.betaincinv(wrong + 1, answered - wrong, certainty))


def abstain_threshold(
    confidences: NDArray[np.floating], correct: NDArray[np.bool_], risk: float, *, certainty: float = CERTAINTY
) -> Abstention | None:
    """The lowest confidence above which at most a share `risk` of the answers is wrong, on further images too.

    The images are taken in the order of confidence. For a number of answers a, fixed beforehand, the images above the
    confidence of number a + 1 are independent draws of what lies above it, so their mistakes are binomial, and a test
    says whether the risk there may exceed what is asked. From each of `STARTS` numbers on, tests go down the list until
    the first that does not hold, all at one level; the levels of the starts add up to 1 - `certainty`.

    It holds if less sure answers are wrong more often: the first threshold with too high a risk is then a fixed one,
    whatever was drawn. Of 1,200 simulated draws it fails in fewer than 5 % (`tests/ops/test_selective.py`).

    Args:
        confidences: floating [N], above 0, of the predicted classes.
        correct: bool [N].
        risk: largest share of wrong answers among those given, 0 < x < 1.
        certainty: probability, over the draw of the N images, that the promise holds.

    Returns:
        None where no threshold can promise it.

    Source: Angelopoulos et al. 2021, arXiv 2110.01052, section 2 (fixed sequence testing with several starts); the
    problem as in Geifman and El-Yaniv 2017, arXiv 1705.08500.
    """
    from scipy import special  # slow to import, and not needed before training

    order = np.argsort(-confidences, kind="stable")
    sure, wrong = confidences[order].astype(np.float64), np.cumsum(~correct[order])
    next_below = np.append(sure[1:], 0.0)
    ends = np.flatnonzero(sure > next_below)  # equal confidences are answered together
    holds = special.bdtr(wrong[ends], ends + 1, risk) <= (1 - certainty) / STARTS
    reached = -1
    for start in range(1, STARTS + 1):
        first = int(np.searchsorted(ends, start * len(sure) // STARTS - 1))
        run = holds[first:]
        length = len(run) if run.all() else int(np.argmin(run))
        reached = max(reached, first + length - 1) if length else reached
    if reached < 0:
        return None
    last = int(ends[reached])
    answered, mistakes = last + 1, int(wrong[last])
    return Abstention(
        threshold=float(next_below[last]),
        coverage=answered / len(sure),
        risk=mistakes / answered,
        bound=risk_bound(mistakes, answered, certainty=certainty),
        answered=answered,
    )
