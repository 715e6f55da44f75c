"""Report sections and overview of classification."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from opsin.report.answering import ANSWERING
from opsin.report.blocks import NUM_CARDS, class_names, confusion, mistake_cards, mistakes_in, per_split
from opsin.report.figures import (
    FULL_MATRIX,
    confusion_figure,
    interval_bar,
    reliability_figure,
)
from opsin.report.formats import is_number, percent
from opsin.report.render import Values, render
from opsin.report.sections import NOT_SCORED, Section, score_words
from opsin.report.view import SplitResult, View, to_score
from opsin.types import JsonMapping

PARTS = ("precision", "recall", "f1")
WORST_CLASSES = 15
"""Number of worst classes shown unfolded where there are too many for a page."""


def per_class(view: View) -> Markup | None:
    """Precision, recall and F1 of each class, with intervals."""

    def show(result: SplitResult) -> Values | None:
        rows = [
            {**row, **{key: to_score(row.get(key)) for key in PARTS}} for row in result.details.get("per_class") or []
        ]
        if not rows:
            return None
        low = _lowest(rows)
        shared = {"low": percent(low, 0), "absent": result.details.get("absent_classes") or []}
        shared["frequent"] = "confused" in result.details
        drawn = [_class_row(row, low, result.name) for row in rows]
        if len(drawn) <= FULL_MATRIX:
            return shared | {"rows": drawn, "more": []}
        worst = sorted(drawn, key=lambda row: row["order"])[:WORST_CLASSES]
        return shared | {"rows": worst, "more": drawn}

    return per_split(view, "per_class.html", show, {})


def _lowest(rows: Sequence[Values]) -> float:
    """A round number below every interval of every class: the start of the bars."""
    ends = [end for row in rows for key in PARTS for end in (row[key].low, row[key].value) if is_number(end)]
    return next((edge for edge in (0.9, 0.8, 0.6, 0.4, 0.2) if edge < min([1.0, *ends])), 0.0)


def _class_row(row: JsonMapping, low: float, role: str) -> Values:
    cells = [(*score_words(row[key]), interval_bar(row[key], low, 1.0, role)) for key in PARTS]
    order = row["f1"].value if is_number(row["f1"].value) else 2.0
    return {"name": str(row.get("class", "")), "support": row.get("support"), "cells": cells, "order": order}


def calibration(view: View) -> Markup | None:
    """Calibration of the confidences."""

    def show(result: SplitResult) -> Values | None:
        curve = result.details.get("reliability") or {}
        if not curve.get("edges") or not sum(curve.get("count", [])):
            return None
        ece = result.scores.get("ece", to_score(None))
        after = result.details.get("ece_after_temperature")
        return {
            "figure": reliability_figure(curve),
            "ece": score_words(ece),
            "temperature": result.details.get("temperature"),
            "after": percent(after, 2) if is_number(after) else None,
            "verdict": calibration_verdict(curve),
            "whiskers": "low" in curve,
        }

    return per_split(view, "calibration.html", show, {})


def calibration_verdict(curve: JsonMapping) -> str:
    """Whether the network is overconfident, underconfident, or neither, by the mean gap over all samples.

    A gap counts only beyond twice its standard error, with each prediction a draw at its bin's confidence.
    """
    bins = [(c, a, n) for c, a, n in zip(curve["confidence"], curve["accuracy"], curve["count"], strict=True) if n]
    num_samples = sum(n for _, _, n in bins)
    gap = sum((c - a) * n for c, a, n in bins) / num_samples
    if abs(gap) < 0.01:
        return "On average its confidence matches its accuracy to within one percentage point."
    differ = f"confidence and accuracy differ by {abs(100 * gap):.1f} percentage points"
    if abs(gap) < 2 * math.sqrt(sum(c * (1 - c) * n for c, _, n in bins)) / num_samples:
        return f"On average {differ}: within chance for {num_samples:,} samples."
    words = "overconfident" if gap > 0 else "underconfident"
    return f"On average it is {words}: {differ}."


def named_cards(view: View, result: SplitResult) -> list[Values]:
    """The mistakes in a split's details, each with thumbnail and class names."""
    names = class_names(view, len(view.classes))
    return [
        {**card, **{key: _named(names, card.get(key)) for key in ("truth", "predicted")}}
        for card in mistake_cards(view, result)
    ]


mistakes = mistakes_in("mistakes.html", named_cards)
"""The most confident mistakes."""


def _named(names: tuple[str, ...], label: object) -> str:
    """A class name from a name or a number."""
    if isinstance(label, int) and 0 <= label < len(names):
        return names[label]
    return str(label)


SECTIONS = (
    Section(key="confusion", title="Confusion", show=confusion, empty=NOT_SCORED),
    Section(key="classes", title="Class by class", show=per_class, empty=NOT_SCORED),
    Section(key="calibration", title="Calibration", show=calibration, empty=NOT_SCORED),
    Section(
        key="mistakes",
        title="Most confident mistakes",
        show=mistakes_in("mistakes.html", named_cards),
        empty=NOT_SCORED,
    ),
    ANSWERING,
)


def overview(view: View, result: SplitResult) -> tuple[Markup, Markup]:
    """The figure of the overview, and pictures of mistakes."""
    figure = confusion_figure(np.asarray(result.details["confusion"], dtype=np.int64), view.classes)
    return figure, render("overview_classify.html", {"cards": named_cards(view, result)[:NUM_CARDS]})
