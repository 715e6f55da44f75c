"""The two questions that short runs answer: which learning rate, which normalization."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from opsin.training.lr_finder import find_lr, read_curve
from opsin.training.normalization import compare_normalizations


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
