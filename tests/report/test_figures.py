"""Figures: what is drawn is what was measured."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsin.report.curves import Panel, Series, line_figure
from opsin.report.figures import (
    confusion_figure,
    interval_bar,
    most_confused,
    reliability_figure,
    row_shares,
)
from opsin.report.svg import Scale, element, log_ticks, nice_ticks, path, step_ticks
from opsin.report.view import LoggedEvent
from opsin.types import Score

COUNTS = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
FINITE = st.floats(-1e6, 1e6).map(lambda v: round(v, 6))


def numbers(figure: str, tag: str, attribute: str, class_: str) -> list[float]:
    """The attribute of every such element of that class."""
    found = [e for e in re.findall(rf"<{tag} [^>]*>", figure) if f'class="{class_}"' in e]
    return [float(re.search(rf' {attribute}="([^"]*)"', e)[1]) for e in found]  # type: ignore[index]


def test_row_shares_sum_to_one_and_an_absent_class_is_zero() -> None:
    assert row_shares(COUNTS).tolist() == [[0.8, 0.2, 0], [0.1, 0.9, 0], [0, 0, 0]]


def test_most_confused_pairs_come_most_frequent_first() -> None:
    assert most_confused(COUNTS) == [(0, 1, 2, 0.2), (1, 0, 1, 0.1)]


def test_small_matrix_shows_each_count_and_both_axes() -> None:
    figure = confusion_figure(COUNTS, ["a", "b", "<c>"])
    assert re.findall(r'class="count[^"]*" text-anchor="middle">(\d+)<', figure) == ["8", "2", "1", "9"]
    assert "true class" in figure
    assert "predicted class" in figure
    assert "&lt;c&gt;" in figure
    assert "<c>" not in figure


def test_small_matrix_shades_by_the_square_root_of_the_share() -> None:
    assert numbers(confusion_figure(COUNTS, "abc"), "rect", "fill-opacity", "cell wrong") == [0.45, 0.32]


def test_large_matrix_draws_every_cell_once() -> None:
    counts = np.random.default_rng(0).poisson(0.05, (100, 100)) + 5 * np.eye(100, dtype=int)
    figure = confusion_figure(counts, [str(k) for k in range(100)])
    assert figure.count("z") - figure.count("zoom") >= (counts > 0).sum()
    assert len(re.findall(r"M[\d.]+ [\d.]+h", figure)) == (counts > 0).sum()


def test_interval_bar_places_value_and_ends_on_its_track() -> None:
    bar = interval_bar(Score(0.75, 0.6, 0.9), 0.5, 1.0)
    assert numbers(bar, "rect", "x", "span val") == pytest.approx([1 + 98 * 0.2])
    assert numbers(bar, "rect", "width", "span val") == pytest.approx([98 * 0.6])
    assert numbers(bar, "rect", "x", "tip val") == pytest.approx([1 + 98 * 0.5 - 1])


def test_undefined_score_has_a_track_without_a_mark() -> None:
    bar = interval_bar(Score(float("nan")), 0.0, 1.0)
    assert "tip" not in bar
    assert "n/a" in bar


def test_reliability_draws_only_bins_that_hold_samples_with_their_intervals() -> None:
    curve = {
        "edges": [0, 0.5, 1.0],
        "confidence": [None, 0.9],
        "accuracy": [None, 0.8],
        "low": [None, 0.7],
        "high": [None, 0.88],
        "count": [0, 40],
    }
    figure = reliability_figure(curve)
    assert figure.count('class="gap"') == 1
    assert numbers(figure, "line", "y1", "whisker val") == pytest.approx([296 - 0.7 * 272])
    assert numbers(figure, "rect", "height", "gap") == pytest.approx([0.1 * 272])


def test_line_breaks_where_a_value_is_not_finite() -> None:
    assert 'd="M0 0L1 1M3 3"' in path([(0, 0), (1, 1), (2, float("nan")), (3, 3)], "line")


@pytest.mark.parametrize("points", [((1.0, 0.5),), ((1.0, 2.0), (2.0, 2.0)), ((1.0, 1e-4), (500.0, 3.0))])
def test_any_curve_stays_inside_its_figure(points: tuple[tuple[float, float], ...]) -> None:
    for log in (False, True):
        panel = Panel(title="Loss", unit="", series=(Series(name="val", role="val", points=points),), log=log)
        figure = line_figure(panel, best=1)
        heights = [float(y) for y in re.findall(r' (?:y|y1|y2|cy)="([^"]*)"', figure)]
        assert all(0 <= y <= 240 for y in heights)
        assert "nan" not in figure


def test_lines_that_end_together_have_labels_apart() -> None:
    same = ((1.0, 1.0), (2.0, 1.0))
    series = (Series(name="train", role="train", points=same), Series(name="val", role="val", points=same))
    figure = line_figure(Panel(title="Accuracy", unit="%", series=series, share=True))
    (train,), (val,) = (numbers(figure, "text", "y", f"direct {role}") for role in ("train", "val"))
    assert abs(train - val) >= 26


def test_events_at_one_place_share_one_mark() -> None:
    panel = Panel(title="Loss", unit="", series=(Series(name="val", role="val", points=((1.0, 1.0), (9.0, 0.5))),))
    events = [LoggedEvent(event=name, after_epoch=4) for name in ("interrupt", "resume", "note")]
    figure = line_figure(panel, events=events)
    assert figure.count('class="event"') == 1
    assert "interrupted, resumed" in figure


@given(FINITE, FINITE)
def test_ticks_enclose_the_values_in_equal_steps(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    ticks = nice_ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 9
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-3, atol=slack)


@given(st.floats(1e-8, 1e6), st.floats(1, 1e6))
def test_logarithmic_ticks_enclose_the_values(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert ticks[0] <= low * 1.001
    assert ticks[-1] >= low * factor * 0.999
    assert len(ticks) >= 2


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_epoch_ticks_are_whole_and_inside(low: int, span: int) -> None:
    ticks = step_ticks(low, low + span)
    assert ticks == sorted(set(ticks))
    assert low <= ticks[0] <= ticks[-1] <= low + span
    assert len(ticks) <= 9


def test_scales_agree_with_a_case_worked_by_hand() -> None:
    assert Scale(low=0, high=10, start=100, end=200)(2.5) == 125
    assert Scale(low=1, high=100, start=0, end=10, log=True)(10) == pytest.approx(5)


@given(st.text())
def test_text_and_attributes_are_escaped(words: str) -> None:
    made = element("text", words, title=words)
    inside = made.removeprefix("<text").removesuffix("</text>")
    assert inside.count("<") == 0
    assert inside.count(">") == 1
    assert inside.count('"') == 2


def test_names_of_events_stand_above_the_plot_and_never_over_one_another() -> None:
    panel = Panel(
        title="Loss", unit="", series=(Series(name="val", role="val", points=tuple((i, 1 / i) for i in range(1, 41))),)
    )
    events = [LoggedEvent(event="resume", after_epoch=epoch) for epoch in (4, 5, 30)]
    figure = ET.fromstring(str(line_figure(panel, events=events)))
    names = [entry for entry in figure.iter("text") if entry.text == "resumed"]
    assert len(names) == 2
    top = min(float(line.get("y1", "")) for line in figure.iter("line") if line.get("class") == "grid")
    assert all(float(name.get("y", "")) < top and name.get("transform") is None for name in names)
    assert [entry.text for entry in figure.iter("title")][-3:] == [
        f"resumed after epoch {epoch}" for epoch in (4, 5, 30)
    ]
