"""Small figures: a curve of a robustness card, the evidence of a finding."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from opsin.diagnosis.card import Curve
from opsin.diagnosis.finding import Bar, Figure, Series
from opsin.report.formats import is_number, number, percent, shorten
from opsin.report.svg import Scale, drawing, element, nice_ticks, path, step_ticks, text
from opsin.types import Score

WIDTH, HEIGHT = 300, 168
LEFT, RIGHT, TOP, BOTTOM = 34, 52, 26, 32
BAR_ROW, NAME_PX, VALUE_PX, NAME_LENGTH = 20, 112, 52, 18


def curve_figure(curve: Curve, clean: Score) -> Markup:
    """The score over the strengths of one change, with intervals; the dashed line is the score without the change."""
    points = [(cell.strength, cell.score) for cell in curve.cells]
    shown = sorted([*points, (curve.unchanged, clean)], key=lambda point: point[0])
    x = Scale(low=shown[0][0], high=shown[-1][0], start=LEFT, end=WIDTH - RIGHT)
    y = Scale(low=0, high=1, start=HEIGHT - BOTTOM, end=TOP)
    parts = _grid(curve.change, curve.unit, y, [0, 0.5, 1])
    parts += [
        text(x(tick), HEIGHT - BOTTOM + 15, f"{tick:g}", anchor="middle") for tick in _apart([p[0] for p in shown], x)
    ]
    parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(clean.value), y2=y(clean.value), class_="best"))
    for strength, score in points:
        if is_number(score.low):
            parts.append(
                element("line", x1=x(strength), x2=x(strength), y1=y(score.low), y2=y(score.high), class_="whisker")
            )
    parts.append(path([(x(strength), y(score.value)) for strength, score in shown], "line val"))
    parts += [_dot(x(strength), y(score.value), f"{strength:g}: {score}", "val") for strength, score in points]
    mean = curve.mean.value
    parts.append(text(WIDTH - RIGHT + 6, y(mean) - 4 if is_number(mean) else TOP, "mean", "mark"))
    parts.append(text(WIDTH - RIGHT + 6, y(mean) + 9 if is_number(mean) else TOP, percent(mean), "value val"))
    return drawing(WIDTH, HEIGHT, *parts, label=f"score over {curve.change}, mean {percent(mean)}")


def finding_figure(figure: Figure) -> Markup:
    """The evidence of a finding, as lines over epochs or as bars."""
    return _lines(figure) if figure.series else _bars(figure)


def _lines(figure: Figure) -> Markup:
    values = [y for series in figure.series for _, y in series.points]
    places = [x for series in figure.series for x, _ in series.points]
    if not values:
        return Markup("")
    ticks = nice_ticks(min(0.0, *values), max(values), 3)
    x = Scale(low=min(places), high=max(places), start=LEFT, end=WIDTH - RIGHT)
    y = Scale(low=ticks[0], high=ticks[-1], start=HEIGHT - BOTTOM, end=TOP)
    parts = _grid(figure.title, "over epochs", y, ticks)
    numbers = step_ticks(int(min(places)), int(max(places)), 5)
    parts += [text(x(tick), HEIGHT - BOTTOM + 15, str(tick), anchor="middle") for tick in numbers]
    for series in figure.series:
        parts.append(path([(x(a), y(b)) for a, b in series.points], f"line {_line_role(series)}"))
    parts += _names(figure.series, y)
    return drawing(WIDTH, HEIGHT, *parts, label=f"{figure.title} over epochs")


def _bars(figure: Figure) -> Markup:
    highest = 1.0 if figure.share else max([1e-9, *(bar.value for bar in figure.bars)])
    x = Scale(low=0, high=highest, start=NAME_PX, end=WIDTH - VALUE_PX)
    parts = [text(0, 14, figure.title, "title")]
    for row, bar in enumerate(figure.bars):
        parts += _bar(bar, x, TOP + BAR_ROW * row, share=figure.share)
    return drawing(WIDTH, TOP + BAR_ROW * len(figure.bars) + 6, *parts, label=figure.title)


def _bar(bar: Bar, x: Scale, top: float, *, share: bool) -> list[Markup]:
    role = "wrong" if bar.marked else "plain"
    value = min(bar.value, x.high) if is_number(bar.value) else 0.0
    parts = [
        text(NAME_PX - 8, top + 11, shorten(bar.name.removeprefix("backbone."), NAME_LENGTH), anchor="end"),
        element("rect", x=x(0), y=top, width=max(1.0, x(value) - x(0)), height=BAR_ROW - 7, class_=f"bar {role}"),
        text(WIDTH - VALUE_PX + 6, top + 11, percent(bar.value) if share else number(bar.value), "value"),
    ]
    if is_number(bar.low) and is_number(bar.high):
        low, high = x(float(bar.low or 0)), x(min(float(bar.high or 0), x.high))
        parts.append(element("line", x1=low, x2=high, y1=top + 6.5, y2=top + 6.5, class_="whisker"))
    return parts


def _grid(title: str, unit: str, y: Scale, ticks: Sequence[float]) -> list[Markup]:
    """Title, unit, lines and numbers of the vertical axis."""
    parts = [element("text", title, element("tspan", unit, class_="name", dx=6), x=0, y=14, class_="title")]
    for tick in ticks:
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(text(LEFT - 6, y(tick) + 4, f"{tick:g}", anchor="end"))
    return parts


def _names(series: Sequence[Series], y: Scale) -> list[Markup]:
    """The name of each line at its end, pushed apart where they would overlap."""
    ends = sorted(((y(one.points[-1][1]), one) for one in series if one.points), key=lambda end: end[0])
    parts, lowest = [], float(TOP)
    for height, one in ends:
        at = max(height + 4, lowest)
        parts.append(text(WIDTH - RIGHT + 6, at, one.name, f"direct {one.role}"))
        lowest = at + 14
    return parts


def _line_role(series: Series) -> str:
    return series.role if series.role in ("train", "val") else "plain"


def _dot(x: float, y: float, hover: str, role: str) -> Markup:
    return element("circle", element("title", hover), cx=x, cy=y, r=2.6, class_=f"dot {role}")


def _apart(values: Sequence[float], x: Scale, least_px: float = 24) -> list[float]:
    """The values whose positions on the axis do not overlap."""
    kept: list[float] = []
    for value in values:
        if not kept or x(value) - x(kept[-1]) >= least_px:
            kept.append(value)
    return kept
