"""Figures of a search: parameter importance, parallel coordinates, scores against minutes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from opsin.report.formats import percent, shorten
from opsin.report.svg import Scale, drawing, element, nice_ticks, path, text
from opsin.studies.search import Trial
from opsin.studies.space import Parameter, Range, Value, text_of_value

WIDTH, HEIGHT = 560, 300
ROW_PX = 26
COLUMN_PX = 118
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 34, 40
NAME_LENGTH = 14
FEWEST_IN_FIGURE = 2


def importance_figure(importances: Mapping[str, float]) -> Markup | None:
    """A bar for each parameter, proportional to its share of the variance of scores; None if unknown."""
    if not importances:
        return None
    longest = max(importances.values()) or 1.0
    parts: list[Markup] = []
    for row, (name, share) in enumerate(importances.items()):
        y = ROW_PX * row + 4
        parts.append(text(128, y + 13, shorten(name, 20), "count", "end"))
        parts.append(element("rect", x=136, y=y, width=360 * share / longest, height=16, rx=3, class_="val"))
        parts.append(text(142 + 360 * share / longest, y + 13, percent(share, 0), "tick"))
    return drawing(WIDTH, ROW_PX * len(importances) + 6, *parts, label="Importance of parameters", class_="grow")


def parallel_figure(trials: Sequence[Trial], space: Sequence[Parameter], best: int, score_name: str) -> Markup | None:
    """A line for each trial that was completed, over an axis for each parameter and one for the score.

    The upper third of the trials is drawn strong, the best one in its own colour; None for fewer than two trials.
    """
    complete = sorted((trial for trial in trials if trial.state == "complete"), key=lambda trial: trial.score)
    if len(complete) < FEWEST_IN_FIGURE:
        return None
    low, high = complete[0].score, complete[-1].score
    score = Scale(low=low, high=high if high > low else low + 1, start=HEIGHT - BOTTOM, end=TOP)
    axes = [_axis(part, LEFT + COLUMN_PX * i) for i, part in enumerate(space)]
    last = LEFT + COLUMN_PX * len(space)
    parts = [mark for _, marks in axes for mark in marks]
    parts += _frame(last, score_name, [(f"{value:.3f}", score(value)) for value in (low, high)])
    upper = complete[-max(1, len(complete) // 3)].score
    for trial in complete:
        points = [
            (LEFT + COLUMN_PX * i, place(trial.values[part.name]))
            for i, (part, (place, _)) in enumerate(zip(space, axes, strict=True))
        ]
        kind = "train" if trial.number == best else "val" if trial.score >= upper else "plain"
        line = path([*points, (last, score(trial.score))], f"line {kind}{'' if kind != 'plain' else ' soft-line'}")
        words = ", ".join(f"{name} {text_of_value(value)}" for name, value in trial.values.items())
        parts.append(element("g", element("title", f"trial {trial.number}: {trial.score:.4f}: {words}"), line))
    return drawing(last + 60, HEIGHT, *parts, label="Trials over their parameters", class_="wide")


class _Place:
    """From a value of a parameter to its height in pixels."""

    def __init__(self, part: Parameter) -> None:
        self.part = part
        if isinstance(part, Range):
            self.scale = Scale(low=part.low, high=part.high, start=HEIGHT - BOTTOM, end=TOP, log=part.log)
        else:
            self.labels = list(part.choices)
            self.scale = Scale(low=0, high=max(len(self.labels) - 1, 1), start=HEIGHT - BOTTOM, end=TOP)

    def __call__(self, value: Value) -> float:
        """The height of `value`."""
        return self.scale(float(value)) if isinstance(self.part, Range) else self.scale(self.labels.index(str(value)))


def _axis(part: Parameter, x: float) -> tuple[_Place, list[Markup]]:
    place = _Place(part)
    values: list[Value] = [part.low, part.high] if isinstance(part, Range) else list(part.choices)
    return place, _frame(x, part.name, [(shorten(text_of_value(value), NAME_LENGTH), place(value)) for value in values])


def _frame(x: float, name: str, ticks: Sequence[tuple[str, float]]) -> list[Markup]:
    """An upright axis with its name above and its ticks beside it."""
    parts = [element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="axis")]
    parts.append(text(x, 14, shorten(name, NAME_LENGTH), "count", "middle"))
    parts += [text(x + 5, y + 4, words, "mark") for words, y in ticks]
    return parts


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats in both score and time, the fastest first."""
    found: list[Trial] = []
    timed = [trial for trial in trials if trial.state == "complete" and not math.isnan(trial.seconds)]
    for trial in sorted(timed, key=lambda trial: (trial.seconds, -trial.score)):
        if not found or trial.score > found[-1].score:
            found.append(trial)
    return found


def frontier_figure(trials: Sequence[Trial], best: int, score_name: str) -> Markup | None:
    """Score against minutes, a point for each trial that was completed, with the frontier as a line of steps."""
    timed = [trial for trial in trials if trial.state == "complete" and not math.isnan(trial.seconds)]
    if len(timed) < FEWEST_IN_FIGURE:
        return None
    minutes = nice_ticks(0.0, max(trial.seconds for trial in timed) / 60)
    scores = nice_ticks(min(trial.score for trial in timed), max(trial.score for trial in timed))
    x = Scale(low=minutes[0], high=minutes[-1], start=LEFT, end=WIDTH - RIGHT)
    y = Scale(low=scores[0], high=scores[-1], start=HEIGHT - BOTTOM, end=TOP)
    parts = [element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(t), y2=y(t), class_="grid") for t in scores]
    parts += [text(LEFT - 7, y(t) + 4, f"{t:.4g}", anchor="end") for t in scores]
    parts += [text(x(t), HEIGHT - BOTTOM + 17, f"{t:.3g}", anchor="middle") for t in minutes]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "minutes of a trial", "name", "middle"))
    parts.append(text(0, 14, f"{score_name} on val", "title"))
    parts.append(path(_steps(frontier(timed), x, y, end=WIDTH - RIGHT), "line val"))
    for trial in timed:
        kind = "train" if trial.number == best else "val"
        hover = element("title", f"trial {trial.number}: {trial.score:.4f} in {trial.seconds / 60:.2f} min")
        parts.append(element("circle", hover, cx=x(trial.seconds / 60), cy=y(trial.score), r=4.5, class_=kind))
    return drawing(WIDTH, HEIGHT, *parts, label="Score against minutes", class_="grow")


def _steps(found: Sequence[Trial], x: Scale, y: Scale, *, end: float) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for trial in found:
        at = x(trial.seconds / 60)
        points += [(at, points[-1][1])] if points else []
        points.append((at, y(trial.score)))
    return [*points, (end, points[-1][1])] if points else []
