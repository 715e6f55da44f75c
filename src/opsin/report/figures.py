"""Figures of scores: confusion matrix, reliability diagram, intervals, bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from opsin.report.formats import NOT_AVAILABLE, is_number, number, percent, shorten
from opsin.report.svg import Scale, compact, drawing, element, nice_ticks, path, text
from opsin.types import Score

FULL_MATRIX = 20
"""Up to this many classes, a confusion matrix shows names and counts in its cells."""
NAME_LENGTH = 24
SHADES = 12


def row_shares(confusion: np.ndarray) -> np.ndarray:
    """Each row of counts as shares of its sum; rows without samples are 0.

    Args:
        confusion: int64 [K, K], rows = true class, columns = predicted class.

    Returns:
        float64 [K, K] in [0, 1].
    """
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.zeros(confusion.shape, dtype=np.float64)
    np.divide(confusion, totals, out=shares, where=totals > 0)
    return shares


def confusion_figure(confusion: np.ndarray, classes: Sequence[str]) -> Markup:
    """The confusion matrix: blue where right, orange where wrong, shaded by the share of the true class.

    Args:
        confusion: int64 [K, K], rows = true class, columns = predicted class.
        classes: K names.
    """
    return _small_matrix(confusion, classes) if len(classes) <= FULL_MATRIX else _large_matrix(confusion)


def _small_matrix(confusion: np.ndarray, classes: Sequence[str]) -> Markup:
    names = [shorten(name, NAME_LENGTH) for name in classes]
    longest = max(len(name) for name in names)
    cell = 64 if len(names) <= 4 else 34 if len(names) <= 12 else 30
    left, flat = 30 + 7 * longest, 7 * longest <= cell
    top = 44 if flat else 34 + 6.2 * longest
    side = cell * len(names)
    shares = row_shares(confusion)
    parts = [element("rect", x=left, y=top, width=side, height=side, class_="plot")]
    for i, j in np.argwhere(confusion > 0):
        box = (left + cell * j, top + cell * i, cell)
        parts += _cell(box, (classes[i], classes[j]), confusion[i, j], shares[i, j], i == j)
    for k, name in enumerate(names):
        middle = cell * (k + 0.5)
        parts.append(text(left - 7, top + middle + 4, name, "tick", "end"))
        at = (left + middle, top - 8) if flat else (left + middle + 4, top - 8)
        parts.append(text(*at, name, "tick", "middle" if flat else None, 0 if flat else -90))
    parts.append(text(left + side / 2, 14, "predicted class", "name", "middle"))
    parts.append(text(12, top + side / 2, "true class", "name", "middle", -90))
    return drawing(
        left + side + 2, top + side + 2, *parts, label="Confusion matrix", class_="wide" if len(names) > 12 else ""
    )


def _cell(
    place: tuple[float, float, float], names: tuple[str, str], count: int, share: float, right: bool
) -> tuple[Markup, Markup]:
    x, y, side = place
    hover = element("title", f"true {names[0]}, predicted {names[1]}: {count} ({percent(share)})")
    kind, strength = ("right" if right else "wrong"), _strength(share)
    box = {"x": x + 0.5, "y": y + 0.5, "width": side - 1, "height": side - 1}
    square = element("rect", hover, **box, class_=f"cell {kind}", fill_opacity=strength)
    words = f"{count}" if count < 100_000 else f"{count / 1000:.0f}k"
    on = " on" if strength > 0.55 else ""
    small = " small" if len(words) > 3 else ""
    return square, text(x + side / 2, y + side / 2 + 4, words, f"count{on}{small}", "middle")


def _strength(share: float) -> float:
    """Opacity of a cell: the square root keeps a confusion of 1 % visible next to a diagonal of 95 %."""
    return float(round(max(0.06, share**0.5), 3))


def _large_matrix(confusion: np.ndarray) -> Markup:
    """A heat map without names: cells of one shade share one path, which keeps 10,000 cells small."""
    num_classes = len(confusion)
    side = 400
    cell, left, top = side / num_classes, 42, 34
    level = np.ceil(np.sqrt(row_shares(confusion)) * SHADES).astype(int)
    right = np.eye(num_classes, dtype=bool)
    parts = [element("rect", x=left, y=top, width=side, height=side, class_="plot")]
    for kind, chosen in (("wrong", ~right), ("right", right)):
        for shade in range(1, SHADES + 1):
            cells = np.argwhere((level == shade) & chosen)
            if len(cells):
                parts.append(_shaded(cells * cell + (top, left), cell, f"cell {kind}", shade / SHADES))
    for tick in (t for t in nice_ticks(0, num_classes - 1, 5) if t < num_classes and t == int(t)):
        at = cell * (tick + 0.5)
        parts.append(text(left - 6, top + at + 4, f"{tick:.0f}", "tick", "end"))
        parts.append(text(left + at, top - 6, f"{tick:.0f}", "tick", "middle"))
    parts.append(text(left + side / 2, 12, "predicted class (number)", "name", "middle"))
    parts.append(text(11, top + side / 2, "true class (number)", "name", "middle", -90))
    return drawing(left + side + 4, top + side + 4, *parts, label="Confusion matrix as a heat map", class_="grow")


def _shaded(corners: np.ndarray, side: float, class_: str, strength: float) -> Markup:
    """Squares of one shade as one path; `corners` float64 [n, 2] are their (y, x)."""
    width = compact(side)
    d = "".join(f"M{compact(float(x))} {compact(float(y))}h{width}v{width}h-{width}z" for y, x in corners)
    return element("path", d=d, class_=class_, fill_opacity=round(strength, 2))


def shade_key() -> Markup:
    """The key of the shades of a confusion matrix."""
    shares = (0.0, 0.01, 0.05, 0.25, 0.5, 1.0)
    parts = [text(0, 13, "share of the true class", "name")]
    for row, kind in enumerate(("right", "wrong")):
        for column, share in enumerate(shares[1:]):
            box = {"x": 150 + 38 * column, "y": 2 + 18 * row, "width": 36, "height": 15}
            parts.append(element("rect", **box, class_=f"cell {kind}", fill_opacity=_strength(share)))
            if row == 0:
                parts.append(text(168 + 38 * column, 51, f"{100 * share:g} %", "tick", "middle"))
        parts.append(text(347, 14 + 18 * row, kind, f"direct {kind}"))
    return drawing(390, 56, *parts, label="Shades from 1 % to 100 % of the true class")


def most_confused(confusion: np.ndarray, limit: int = 15) -> list[tuple[int, int, int, float]]:
    """The largest cells off the diagonal, as (true, predicted, count, share of the true class), most frequent first."""
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    shares = row_shares(confusion)
    order = sorted(np.argwhere(errors > 0).tolist(), key=lambda ij: (-errors[ij[0], ij[1]], -shares[ij[0], ij[1]], ij))
    return [(i, j, int(errors[i, j]), float(shares[i, j])) for i, j in order[:limit]]


def interval_bar(score: Score, low: float, high: float, role: str = "val") -> Markup:
    """A score as a tick on its 95 % interval, on a track from `low` to `high`."""
    scale = Scale(low=low, high=high, start=1, end=99)
    parts = [element("rect", x=0, y=5, width=100, height=2, class_="track")]
    if is_number(score.low) and is_number(score.high):
        start, end = scale(max(low, score.low)), scale(min(high, score.high))
        parts.append(element("rect", x=start, y=3, width=max(1.0, end - start), height=6, class_=f"span {role}"))
    if is_number(score.value):
        parts.append(element("rect", x=scale(score.value) - 1, y=0, width=2, height=12, class_=f"tip {role}"))
    words = percent(score.value) if is_number(score.value) else NOT_AVAILABLE
    attributes = {"viewBox": "0 0 100 12", "preserveAspectRatio": "none", "class_": "interval", "role": "img"}
    return element("svg", *parts, **attributes, aria_label=words)


def share_bar(share: float, role: str = "plain") -> Markup:
    """A bar that is `share` (0 to 1) of its column wide."""
    bar = element("rect", x=0, y=0, width=max(0.6, 100 * min(1.0, share)), height=10, class_=f"bar {role}")
    attributes = {"viewBox": "0 0 100 10", "preserveAspectRatio": "none", "class_": "share", "aria_hidden": "true"}
    return element("svg", bar, **attributes)


def reliability_figure(curve: Mapping[str, Sequence[Any]]) -> Markup:
    """Accuracy against confidence in bins, with the diagonal of perfect calibration and the bins' counts below.

    Args:
        curve: "edges" (B + 1 values in [0, 1]), "confidence" and "accuracy" (means of the B bins), "count" (samples
            of the B bins); where known also "low" and "high", the 95 % interval of each accuracy.
    """
    count = curve["count"]
    x = Scale(low=0, high=1, start=52, end=372)
    y = Scale(low=0, high=1, start=296, end=24)
    low = Scale(low=0, high=max([1, *count]), start=388, end=326)
    parts = [text(0, 12, "Reliability", "title"), text(372, 12, "accuracy, %", "name", "end")]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0):
        parts.append(element("line", x1=52, x2=372, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(text(45, y(tick) + 4, f"{100 * tick:.0f}", "tick", "end"))
        parts.append(text(x(tick), 404, f"{100 * tick:.0f}", "tick", "middle"))
    for b in (b for b, n in enumerate(count) if n):
        parts += _bin((x, y, low), curve, b)
    parts.append(path([(x(0), y(0)), (x(1), y(1))], "ideal"))
    parts += [path([(128, 8), (152, 8)], "ideal"), text(158, 12, "perfectly calibrated", "name")]
    parts.append(element("line", x1=52, x2=372, y1=296, y2=296, class_="axis"))
    parts.append(element("line", x1=52, x2=372, y1=388, y2=388, class_="axis"))
    parts += [text(45, low(low.high) + 4, number(int(low.high)), "tick", "end"), text(45, 392, "0", "tick", "end")]
    parts.append(text(52, 320, "samples in each bin", "name"))
    parts.append(text(212, 421, "confidence of the prediction, %", "name", "middle"))
    return drawing(392, 428, *parts, label="Reliability diagram")


def _bin(scales: tuple[Scale, Scale, Scale], curve: Mapping[str, Sequence[Any]], b: int) -> list[Markup]:
    """One bin: its accuracy with the interval, the gap to its confidence, and its count."""
    x, y, low = scales
    mean, right, count = curve["confidence"][b], curve["accuracy"][b], curve["count"][b]
    start, width = x(curve["edges"][b]) + 1, x(curve["edges"][b + 1]) - x(curve["edges"][b]) - 2
    hover = element("title", f"confidence {percent(mean)}, accuracy {percent(right)}, {count} samples")
    top, bottom = min(y(mean), y(right)), max(y(mean), y(right))
    parts = [
        element("rect", hover, x=start, y=bottom, width=width, height=y(0) - bottom, class_="bar val soft"),
        element("rect", hover, x=start, y=top, width=width, height=bottom - top, class_="gap"),
        element("line", x1=start, x2=start + width, y1=y(right), y2=y(right), class_="line val"),
        element("rect", hover, x=start, y=low(count), width=width, height=low(0) - low(count), class_="bar plain"),
    ]
    ends = [curve[key][b] for key in ("low", "high") if key in curve]
    if len(ends) == 2 and all(is_number(end) for end in ends):
        middle = start + width / 2
        parts.append(element("line", x1=middle, x2=middle, y1=y(ends[0]), y2=y(ends[1]), class_="whisker val"))
    return parts
