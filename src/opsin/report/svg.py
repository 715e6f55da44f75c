"""Small pieces of SVG: escaped elements, scales, ticks and the frame of a plot.

Colours are classes, never attributes, so that one figure serves a light page, a dark page and paper
(`templates/figures.css` gives them their meaning). No inline style: the page's security policy would refuse it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """An SVG element; text and attribute values are escaped, numbers rounded to two decimals.

    A trailing underscore in a name is dropped and others become hyphens: `class_`, `text_anchor`.

    >>> str(element("text", "a < b", x=1.23456, class_="label"))
    '<text x="1.23" class="label">a &lt; b</text>'
    """
    names = (name.rstrip("_").replace("_", "-") if name != "viewBox" else name for name in attributes)
    pairs = zip(names, attributes.values(), strict=True)
    joined = Markup("").join(
        Markup(' {}="{}"').format(name, compact(value)) for name, value in pairs if value is not None
    )
    body = Markup("").join(escape(child) for child in children)
    return Markup("<{}{}>{}</{}>").format(Markup(tag), joined, body, Markup(tag))


def compact(value: object) -> str:
    """A number with at most two decimals; anything else unchanged.

    >>> compact(2.0), compact(0.125), compact("a")
    ('2', '0.12', 'a')
    """
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def drawing(width: float, height: float, *children: str, label: str, class_: str = "") -> Markup:
    """A whole figure of that size in pixels; `label` is its accessible name.

    Classes: "wide" figures keep their size and scroll on a phone; "grow" ones fill the width they get.
    """
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {compact(float(width))} {compact(float(height))}",
        width=compact(float(width)),
        height=compact(float(height)),
        class_=f"figure {class_}".strip(),
        role="img",
        aria_label=label,
    )


def text(x: float, y: float, words: str, class_: str = "tick", anchor: str | None = None, turn: float = 0) -> Markup:
    """Words at a point; `anchor` is middle or end; `turn` is in degrees around the point."""
    rotate = f"rotate({compact(float(turn))} {compact(float(x))} {compact(float(y))})" if turn else None
    return element("text", words, x=x, y=y, class_=class_, text_anchor=anchor, transform=rotate)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A line through points in pixels; a point that is not finite breaks it."""
    parts, command = [], "M"
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            command = "M"
            continue
        parts.append(f"{command}{compact(float(x))} {compact(float(y))}")
        command = "L"
    return element("path", d="".join(parts), class_=class_)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From a value in [low, high] to a pixel in [start, end]; linear, or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._turn(self.low), self._turn(self.high)
        share = 0.5 if high == low else (self._turn(value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def _turn(self, value: float) -> float:
        if not self.log:
            return value
        return math.log10(value) if value > 0 else math.nan


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values (steps of 1, 2 or 5) that enclose [low, high]; about `count` of them.

    >>> nice_ticks(0.03, 0.96)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        margin = abs(low) * 0.1 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if rough <= factor * power * 1.0001)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose [low, high], with 2 and 5 between them where there are few.

    >>> log_ticks(0.02, 3)
    [0.01, 0.1, 1.0, 10.0]
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    powers = [10.0**p for p in range(first, last + 1)]
    if last - first >= 2:
        return powers
    between = sorted({factor * p for p in powers for factor in (1, 2, 5)})
    lowest = max((v for v in between if v <= low * 1.0001), default=between[0])
    highest = min((v for v in between if v >= high * 0.9999), default=between[-1])
    return [v for v in between if lowest <= v <= highest] if lowest < highest else powers


def step_ticks(low: int, high: int, count: int = 6) -> list[int]:
    """Round whole numbers inside [low, high]; `low` too where it does not crowd the first of them.

    >>> step_ticks(1, 10), step_ticks(1, 3)
    ([1, 2, 4, 6, 8, 10], [1, 2, 3])
    """
    if high - low <= count:
        return list(range(low, high + 1))
    ticks = [int(t) for t in nice_ticks(low, high, count) if low < t <= high and t == int(t)]
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    return [*([low] if not ticks or ticks[0] - low > step / 3 else []), *ticks]
