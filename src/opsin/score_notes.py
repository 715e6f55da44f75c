"""Caveats of a score: that its epoch was chosen by it, and the chance level. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from opsin.types import JsonMapping, Score

OPTIMISM = "by 2 to 3 points in a simulation of 20 equal epochs on 180 samples"
"""Result of `benchmarks/coverage.py` for the best of truly equal epochs: docs/intervals.md."""
TEST_AS_VAL = "the test split was used as val: epochs were chosen by it, and scores on it are not sealed test scores"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How the weights of a run that keeps those of its best epoch were chosen.

    `epochs`: number of candidates. `best`, `last`: scores of the best and the last epoch in the log.
    `optimism`: approximate optimism of the best one, as a share; None if unknown.
    """

    chosen_by: str
    epochs: int
    best_epoch: int
    best: float
    last_epoch: int
    last: float
    optimism: float | None = None


def selection(epochs: Iterable[tuple[int, Mapping[str, float]]], score: str) -> Selection | None:
    """How the weights of a run that keeps those of its best epoch were chosen.

    Args:
        epochs: numbers and val scores of the epochs, in order.
        score: the main score, by which the best was chosen.

    Returns:
        None where there was no choice: fewer than two epochs have the score.
    """
    scored = [(epoch, val[score]) for epoch, val in epochs if not math.isnan(val.get(score, math.nan))]
    if len(scored) < 2:
        return None
    best_epoch, best = max(scored, key=lambda pair: (pair[1], pair[0]))
    last_epoch, last = scored[-1]
    return Selection(
        chosen_by=f"val {score}",
        epochs=len(scored),
        best_epoch=best_epoch,
        best=best,
        last_epoch=last_epoch,
        last=last,
    )


def selection_words(chosen: Selection) -> str:
    """`selection` in a sentence.

    >>> epochs = [(1, {"accuracy": 0.8}), (2, {"accuracy": 0.75})]
    >>> selection_words(selection(epochs, "accuracy"))[:70]
    'the best of 2 epochs, chosen by this score (epoch 1, the last has 0.75'
    """
    told = (
        OPTIMISM
        if chosen.optimism is None
        else f"by about {chosen.optimism:.4f}, if the variation between epochs is chance"
    )
    return (
        f"the best of {chosen.epochs} epochs, chosen by this score (epoch {chosen.best_epoch}, "
        f"the last has {chosen.last:.4f}), so it is optimistic: {told}; "
        "its interval does not include that"
    )


def chance_words(score: Score, chance: Mapping[str, Any] | None, *, choices: int = 1) -> str | None:
    """The score of predictions that ignore the image, and whether this score is better.

    Args:
        score: with its interval.
        chance: `value`, and `by`, a description of the rule; None if unknown.
        choices: number of epochs from which this one was chosen by the score. The best of many is above chance by luck,
            so the lower end is Bonferroni-corrected.

    Returns:
        A clause for a person, or None where nothing can be said.

    >>> chance = {"value": 0.11, "by": "always the most frequent class"}
    >>> chance_words(Score(0.172, 0.124, 0.234), chance, choices=20)
    'not shown to be better than chance: always the most frequent class scores 0.1100 (ignores the image)'
    >>> chance_words(Score(0.9, 0.85, 0.94), chance)
    'always the most frequent class scores 0.1100 (ignores the image)'
    """
    if chance is None or chance.get("value") is None or score.value != score.value:
        return None
    told = f"{chance['by']} scores {chance['value']:.4f} (ignores the image)"
    if score.low != score.low:
        return told
    better = lowest(score, choices) > chance["value"]
    return told if better else f"not shown to be better than chance: {told}"


def lowest(score: Score, choices: int) -> float:
    """The lower end of the interval of a score that was chosen as the best of `choices`.

    Source: Bonferroni's correction; by the quantile of the standard normal distribution.
    """
    normal = NormalDist()
    factor = normal.inv_cdf(1 - 0.025 / choices) / normal.inv_cdf(0.975)
    return score.value - factor * (score.value - score.low)


def notes_of(
    details: JsonMapping, chosen: Selection | None, score: str, found: Score, *, test_as_val: bool = False
) -> tuple[str, ...]:
    """The notes on one split's main score.

    Args:
        details: of the task, with `chance` where that is known, and a `caveat` where its interval has one.
        chosen: how the epoch was chosen, where it was on this split.
        score: name of the main score.
        found: its value and interval.
        test_as_val: whether the split is the test split, used as val.
    """
    chance = chance_words(found, details.get("chance"), choices=chosen.epochs if chosen else 1)
    caveat = details.get("caveat")
    words = (TEST_AS_VAL if test_as_val else None, chance, selection_words(chosen) if chosen else None, caveat)
    return tuple(f"{score}: {text}" for text in words if text)
