"""The two questions that short runs answer: which learning rate, which normalization."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from opsin.config import NormalizeName
from opsin.errors import ConfigError, DivergedError
from opsin.studies.lr_finder import find_lr, read_curve
from opsin.studies.normalization import NormalizationResult, compare_normalizations, verdict
from opsin.training.engine.step import Stepper


def test_the_suggestion_is_a_third_of_the_rate_with_the_lowest_loss() -> None:
    rates = [10.0**i for i in range(-5, 1)]
    curve = read_curve(rates, [2.0, 1.9, 1.2, 0.2, 5.0, 50.0])
    assert curve.suggestion == pytest.approx(1e-2 / 3, rel=0.05)
    assert curve.losses[0] == 2.0


def test_the_finder_covers_its_range_or_stops_where_the_network_diverges(quick_settings: dict[str, Any]) -> None:
    curve = find_lr("digits", steps=30, **(quick_settings | {"model": "plain"}))
    assert curve.rates[0] == pytest.approx(1e-6)
    assert all(math.isfinite(loss) for loss in curve.losses)
    assert curve.rates[0] <= curve.suggestion <= curve.rates[-1]


def test_a_network_that_diverges_at_the_lowest_rate_has_no_curve(
    quick_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: Stepper, *args: object, **kwargs: object) -> dict[str, float]:
        raise DivergedError("the loss is not a finite number")

    monkeypatch.setattr(Stepper, "step", diverge)
    with pytest.raises(DivergedError):
        find_lr("digits", steps=5, **(quick_settings | {"model": "plain"}))


def test_no_steps_and_no_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps"):
        find_lr("digits", steps=0)
    with pytest.raises(ConfigError, match="seeds"):
        compare_normalizations("digits", seeds=0)


def result_of(name: NormalizeName, *scores: float) -> NormalizationResult:
    sd = statistics.stdev(scores) if len(scores) > 1 else math.nan
    contract: dict[str, Any] = {"range": (0.0, 1.0), "channel_mean": (), "channel_std": ()}
    return NormalizationResult(normalize=name, scores=scores, mean=statistics.fmean(scores), sd=sd, **contract)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((0.9, 0.9), (0.5, 0.5), "by more than the spread over seeds"),
        ((0.9, 0.7), (0.8, 0.6), "within the spread over seeds"),
        ((0.9,), (0.5,), "in one run of each"),
        ((math.nan,), (math.nan,), "no normalization trained"),
    ],
)
def test_the_verdict_claims_no_more_than_the_seeds_allow(
    first: tuple[float, ...], second: tuple[float, ...], said: str
) -> None:
    assert said in verdict((result_of("standard", *first), result_of("none", *second)))


def test_the_finder_leaves_no_run_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_settings: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    find_lr("digits", steps=5, **(quick_settings | {"model": "plain"}))
    assert list(tmp_path.iterdir()) == []


def test_every_normalization_is_measured_and_the_verdict_names_the_best(quick_settings: dict[str, Any]) -> None:
    answer = compare_normalizations("digits", seeds=2, **(quick_settings | {"epochs": 1}))
    assert {result.normalize for result in answer.results} == {"none", "unit", "signed", "standard", "learned"}
    assert all(len(result.scores) == 2 for result in answer.results)
    assert answer.results[0].mean == max(result.mean for result in answer.results)
    assert f"`{answer.results[0].normalize}`" in answer.verdict


def test_normalizations_are_compared_on_a_network_without_a_knob_for_batch_norm(quick_settings: dict[str, Any]) -> None:
    settings = quick_settings | {"epochs": 1, "model": "tiny", "filters": (4, 8)}
    answer = compare_normalizations("digits", seeds=1, **settings)
    assert answer.network.startswith("tiny, 1 epochs")
