"""Parts of a report that several tasks show: a block for each scored split, the confusion of classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from markupsafe import Markup

from opsin.report.figures import FULL_MATRIX, confusion_figure, most_confused, shade_key
from opsin.report.formats import percent
from opsin.report.render import Values, picture, render
from opsin.report.view import SplitResult, View

NUM_CARDS = 12
"""Number of pictures per task in the overview."""


def class_names(view: View, num_classes: int) -> tuple[str, ...]:
    """The run's class names, or numbers where it has none."""
    return view.classes if len(view.classes) == num_classes else tuple(str(k) for k in range(num_classes))


def per_split(
    view: View,
    template: str,
    show: Callable[[SplitResult], Values | None],
    shared: Values,
) -> Markup | None:
    """The template once for each scored split that has the details; all but the first are folded."""
    blocks = [(result, values) for result in view.results if (values := show(result)) is not None]
    if not blocks:
        return None
    return render("per_split.html", {"inner": template, "blocks": blocks, "shared": shared})


def mistake_cards(view: View, result: SplitResult) -> list[Values]:
    """The mistakes in a split's details, each with its thumbnail."""
    images = view.gallery.get(f"mistakes_{result.name}", np.empty(0))
    listed = result.details.get("mistakes", [])
    return [{**entry, "picture": picture(images[i]) if i < len(images) else None} for i, entry in enumerate(listed)]


def mistakes_in(
    template: str, cards: Callable[[View, SplitResult], list[Values]] = mistake_cards
) -> Callable[[View], Markup | None]:
    """A section of the mistakes of each scored split that has them, as `cards`."""

    def show(view: View, result: SplitResult) -> Values | None:
        return {"cards": cards(view, result)} if "mistakes" in result.details else None

    return lambda view: per_split(view, template, partial(show, view), {})


def confusion(view: View) -> Markup | None:
    """The confusion matrix of each scored split, and the pairs that are confused most."""

    def show(result: SplitResult) -> Values | None:
        if "confused" in result.details:
            return _confused(result)
        counts = np.asarray(result.details.get("confusion") or [], dtype=np.int64)
        if counts.ndim != 2 or counts.sum() == 0:
            return None
        names = class_names(view, len(counts))
        pairs = [(names[i], names[j], n, percent(share)) for i, j, n, share in most_confused(counts)]
        wrong = int(counts.sum() - np.trace(counts))
        return {"figure": confusion_figure(counts, names), "pairs": pairs, "wrong": wrong, "total": int(counts.sum())}

    many = len(view.classes) > FULL_MATRIX
    return per_split(view, "confusion.html", show, {"key": shade_key(), "many": many, "classes": view.classes})


def _confused(result: SplitResult) -> Values:
    """The pairs that are confused most, of more classes than a matrix has room for."""
    details = result.details
    pairs = [(row["truth"], row["predicted"], row["images"], percent(row["share"])) for row in details["confused"]]
    return {"figure": None, "pairs": pairs, "wrong": details["wrong"], "total": details["images"]}
