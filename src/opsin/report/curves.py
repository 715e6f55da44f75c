"""Line figures of values over the epochs of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from opsin.report.formats import is_number, number, percent
from opsin.report.svg import Scale, drawing, element, log_ticks, nice_ticks, path, step_ticks, text
from opsin.report.view import LoggedEvent, View
from opsin.runs import Epoch
from opsin.tasks.cards import score_kind

WIDTH, HEIGHT = 330, 240
EVENT_ROW, MARK_CHARACTER_PX = 13, 5.6
LEFT, RIGHT, TOP, BOTTOM = 44, 54, 38, 40
EVENT_NAMES = {
    "resume": "resumed",
    "early_stop": "stopped early",
    "interrupt": "interrupted",
    "memory_guard": "batch halved",
}
"""Events drawn into the curves, and their labels."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: `points` are (epoch, value); `role` is its colour's name: train, val, or plain."""

    name: str
    role: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure of some series over epochs. `unit` goes to the axis; `share` values are shown as percentages."""

    title: str
    unit: str
    series: tuple[Series, ...]
    share: bool = False
    zero: bool = False
    log: bool = False

    @property
    def values(self) -> list[float]:
        return [y for series in self.series for _, y in series.points]


def learning_panels(view: View) -> list[Markup]:
    """Loss, score and learning rate over epochs, with the best epoch and events."""
    score = score_key(view.epochs, view.main_score)
    loss = _both(view.epochs, "loss")
    panels = [Panel(title="Loss", unit="", series=loss, log=_spans(loss, 30))]
    if score:
        title = score_kind(view.task, score).title
        panels.append(Panel(title=title, unit="%", series=_both(view.epochs, score), share=True))
    rate = (series_of(view.epochs, "learning rate", "plain", "lr"),)
    panels.append(Panel(title="Learning rate", unit="", series=rate, zero=True))
    return [line_figure(panel, best=view.best_epoch, events=view.events) for panel in panels if panel.values]


def cost_panels(view: View) -> list[Markup]:
    """Throughput, processor use and peak memory over epochs, where the log has them."""
    wanted = (
        ("Throughput", "images per second", "images_per_second", 1.0),
        ("CPU use", "% of all cores", "cpu_percent", 1.0),
        ("Peak memory", "MB", "peak_memory_bytes", 1e6),
        ("GPU use", "%", "gpu_percent", 1.0),
        ("GPU memory", "MB", "gpu_memory_bytes", 1e6),
    )
    panels = (
        Panel(title=title, unit=unit, series=(series_of(view.epochs, "", "plain", key, scale=scale),), zero=True)
        for title, unit, key, scale in wanted
    )
    return [line_figure(panel) for panel in panels if panel.values]


def score_key(epochs: Sequence[Epoch], preferred: str) -> str | None:
    """The score that the log has for each epoch: `preferred`, else the first one that is not a loss."""
    parts = [part for epoch in epochs for part in (epoch.val, epoch.train)]
    keys = dict.fromkeys(key for part in parts for key in part if key != "loss")
    return preferred if preferred in keys else next(iter(keys), None)


def series_of(
    epochs: Sequence[Epoch], name: str, role: str, key: str, *, split: str | None = None, scale: float = 1
) -> Series:
    """The values of `key` (of `split`'s part, if given) over the epochs that have it, divided by `scale`."""
    values = [(e.epoch, getattr(e, split).get(key) if split else getattr(e, key)) for e in epochs]
    points = tuple((float(epoch), value / scale) for epoch, value in values if is_number(value))
    return Series(name=name, role=role, points=points)


def line_figure(panel: Panel, *, best: int | None = None, events: Sequence[LoggedEvent] = ()) -> Markup:
    """The panel as SVG, 330 × 240 pixels, with direct labels at the lines' ends."""
    first, last = (pick(x for s in panel.series for x, _ in s.points) for pick in (min, max))
    span = (first - 0.5, last + 0.5) if first == last else (first, last)
    x = Scale(low=span[0], high=span[1], start=LEFT, end=WIDTH - RIGHT)
    marks = _event_marks(events, x, last)
    y, ticks = _vertical(panel, TOP + EVENT_ROW if marks else TOP)
    parts = _frame(panel, x, y, ticks, int(first), int(last))
    parts += [_line(series, x, y) for series in panel.series]
    parts += _end_labels(panel, y)
    if best is not None and first <= best <= last:
        parts += _best_mark(panel, x, y, best)
    parts += marks
    return drawing(WIDTH, HEIGHT, *parts, label=f"{panel.title} over epochs {first:g} to {last:g}")


def _vertical(panel: Panel, top: float) -> tuple[Scale, list[float]]:
    low, high = min(panel.values), max(panel.values)
    if panel.log:
        ticks = log_ticks(low, high)
    else:
        ticks = nice_ticks(0.0 if panel.zero and low >= 0 else low, high)
        if panel.share:
            ticks = [t for t in ticks if -1e-9 <= t <= 1 + 1e-9] or ticks
    return Scale(low=ticks[0], high=ticks[-1], start=HEIGHT - BOTTOM, end=top, log=panel.log), ticks


def _frame(panel: Panel, x: Scale, y: Scale, ticks: list[float], first: int, last: int) -> list[Markup]:
    """Title, grid, tick labels and axis names."""
    parts = [element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(t), y2=y(t), class_="grid") for t in ticks]
    parts += [text(LEFT - 7, y(t) + 4, _tick(panel, t), anchor="end") for t in ticks]
    for tick in step_ticks(first, last):
        parts.append(element("line", x1=x(tick), x2=x(tick), y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis"))
        parts.append(text(x(tick), HEIGHT - BOTTOM + 17, str(tick), anchor="middle"))
    parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "epoch", "name", "middle"))
    words = f"{panel.unit} log scale".strip() if panel.log else panel.unit
    unit = element("tspan", words, class_="name", dx=6) if words else ""
    parts.append(element("text", panel.title, unit, x=0, y=14, class_="title"))
    return parts


def _tick(panel: Panel, value: float) -> str:
    if panel.share:
        return f"{100 * value:.6g}"
    return f"{value:,.6g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def _line(series: Series, x: Scale, y: Scale) -> Markup:
    """The line, with a dot (and its number on hover) at each point while they are few."""
    points = [(x(a), y(b)) for a, b in series.points]
    dots = Markup("")
    if len(points) <= 40:
        pairs = zip(points, series.points, strict=True)
        dots = Markup("").join(
            element("circle", _hover(series, *raw), cx=a, cy=b, r=2.2, class_=f"dot {series.role}")
            for (a, b), raw in pairs
            if math.isfinite(b)
        )
    return path(points, f"line {series.role}") + dots


def _hover(series: Series, epoch: float, value: float) -> Markup:
    return element("title", f"epoch {epoch:g}{': ' + series.name if series.name else ''} {number(value, 4)}")


def _end_labels(panel: Panel, y: Scale) -> list[Markup]:
    """Name and last value right of each line, pushed apart where they would overlap."""
    ends = sorted(((y(s.points[-1][1]), s) for s in panel.series if s.points), key=lambda end: end[0])
    placed: list[tuple[float, Series]] = []
    for height, series in ends:
        lowest = placed[-1][0] + 27 if placed else TOP
        placed.append((max(height, lowest), series))
    overflow = max(0.0, (placed[-1][0] + 14 - (HEIGHT - BOTTOM + 8)) if placed else 0.0)
    parts = []
    for height, series in placed:
        value = series.points[-1][1]
        shown = percent(value) if panel.share else number(value)
        at = height - overflow
        if series.name and len(panel.series) > 1:
            parts.append(text(WIDTH - RIGHT + 7, at, series.name, f"direct {series.role}"))
            at += 13
        parts.append(text(WIDTH - RIGHT + 7, at + (0 if len(panel.series) > 1 else 4), shown, f"value {series.role}"))
    return parts


def _best_mark(panel: Panel, x: Scale, y: Scale, best: int) -> list[Markup]:
    """A dashed line at the best epoch, and a ring on the val line there."""
    at = x(best)
    parts = [element("line", x1=at, x2=at, y1=TOP - 6, y2=HEIGHT - BOTTOM, class_="best")]
    anchor = "end" if at > (LEFT + WIDTH - RIGHT) / 2 else "start"
    parts.append(text(at + (4 if anchor == "end" else -4), TOP - 9, f"best: epoch {best}", "mark", anchor))
    for series in panel.series:
        value = dict(series.points).get(float(best))
        if series.role == "val" and value is not None:
            parts.append(element("circle", cx=at, cy=y(value), r=5, class_="ring val"))
    return parts


def _event_marks(events: Sequence[LoggedEvent], x: Scale, last: float) -> list[Markup]:
    """A dotted line where the run was resumed, stopped or changed; its name is in a row above the plot.

    A name that would overlap the one before is only shown on hover.
    """
    names: dict[int, list[str]] = {}
    for event in events:
        if event.event in EVENT_NAMES:
            names.setdefault(event.after_epoch, []).append(EVENT_NAMES[event.event])
    parts, taken = [], 0.0
    for epoch, found in sorted(names.items()):
        name = ", ".join(dict.fromkeys(found))
        at = x(min(max(x.low, epoch + (0.5 if epoch < last else 0.0)), last))
        hover = element("title", f"{name} after epoch {epoch}")
        parts.append(element("line", hover, x1=at, x2=at, y1=TOP + EVENT_ROW - 5, y2=HEIGHT - BOTTOM, class_="event"))
        width = MARK_CHARACTER_PX * len(name)
        start = min(max(0.0, at - width / 2), WIDTH - width)
        if start >= taken:
            parts.append(text(start + width / 2, TOP + EVENT_ROW - 8, name, "mark", "middle"))
            taken = start + width + MARK_CHARACTER_PX
    return parts


def _both(epochs: Sequence[Epoch], key: str) -> tuple[Series, ...]:
    both = (series_of(epochs, split, split, key, split=split) for split in ("train", "val"))
    return tuple(series for series in both if series.points)


def _spans(series: Sequence[Series], ratio: float) -> bool:
    """Whether the values are positive and span more than `ratio`, so that a linear axis would hide the small ones."""
    values = [y for s in series for _, y in s.points]
    return bool(values) and min(values) > 0 and max(values) / min(values) > ratio
