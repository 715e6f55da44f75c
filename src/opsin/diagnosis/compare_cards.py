"""Robustness cards of several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from opsin.diagnosis.card import RobustnessCard, read_card
from opsin.errors import ConfigError, RunError
from opsin.runs import Run
from opsin.types import JsonDict, SplitName


@dataclass(frozen=True, kw_only=True)
class CardPair:
    """Run b against run a: the differences of the means by change, and the changes in which intervals are disjoint.

    Disjoint intervals are a conservative test: if they are disjoint, the difference is real; if not, it is
    unknown. `opsin compare` without `--robustness` tests the score itself, sample by sample.
    """

    a: str
    b: str
    differences: dict[str, float]
    apart: tuple[str, ...]

    @property
    def words(self) -> str:
        """The differences in one line; those with disjoint intervals are marked with a star."""
        parts = [f"{name} {value:+.4f}{'*' if name in self.apart else ''}" for name, value in self.differences.items()]
        return ", ".join(parts) + " (*: disjoint intervals)"


@dataclass(frozen=True, kw_only=True)
class CardComparison:
    """Cards of runs on the same data, and all pairs of them."""

    cards: tuple[RobustnessCard, ...]
    pairs: tuple[CardPair, ...]

    def to_json(self) -> JsonDict:
        """As plain JSON; None for undefined."""
        return {
            "cards": [card.to_json() for card in self.cards],
            "pairs": [
                {"a": pair.a, "b": pair.b, "differences": pair.differences, "apart": list(pair.apart)}
                for pair in self.pairs
            ],
        }


def compare_cards(runs: Sequence[Run], *, split: SplitName = "val") -> CardComparison:
    """The cards of runs side by side.

    Raises:
        ConfigError: fewer than two runs.
        RunError: a run has no card on that split, or the cards are of other samples, another score or other views.
    """
    if len(runs) < 2:
        raise ConfigError("a comparison needs several runs", got=f"{len(runs)} run", expected="2 or more")
    cards = [read_card(run, split) for run in runs]
    fingerprints = [run.data.fingerprint for run in runs]
    for run, card, fingerprint in zip(runs, cards, fingerprints, strict=True):
        same = (card.score, card.n, fingerprint) == (cards[0].score, cards[0].n, fingerprints[0])
        if not same:
            do = "measure both on the same data set with `opsin evaluate RUN --robustness`"
            raise RunError("the cards are of different samples or scores", where=run.path, do=do)
        if card.views != cards[0].views:
            got, expected = (", ".join(one.views) or "no views" for one in (card, cards[0]))
            do = "measure both with the same `--tta`: `opsin evaluate RUN --robustness`"
            raise RunError(
                "the cards are averaged over different views", where=run.path, got=got, expected=expected, do=do
            )
    return CardComparison(cards=tuple(cards), pairs=tuple(_pair(a, b) for a, b in combinations(cards, 2)))


def _pair(a: RobustnessCard, b: RobustnessCard) -> CardPair:
    means = {"none": (a.clean, b.clean)}
    known = {curve.change: curve.mean for curve in b.curves}
    means |= {curve.change: (curve.mean, known[curve.change]) for curve in a.curves if curve.change in known}
    means["all changes"] = (a.mean, b.mean)
    return CardPair(
        a=a.run,
        b=b.run,
        differences={name: theirs.value - ours.value for name, (ours, theirs) in means.items()},
        apart=tuple(name for name, (ours, theirs) in means.items() if ours.high < theirs.low or theirs.high < ours.low),
    )
