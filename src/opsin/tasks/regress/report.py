"""Report sections and overview of regression."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from opsin.report.blocks import NUM_CARDS, mistake_cards, mistakes_in, per_split
from opsin.report.formats import number
from opsin.report.render import Values, render
from opsin.report.sections import NOT_SCORED, Section, score_words
from opsin.report.view import SplitResult, View, to_score
from opsin.types import JsonMapping

SIDE, MARGIN = 220, 34
"""Side of a figure and its margin, in units of the drawing."""


def numbers(view: View) -> Markup | None:
    """Each number: its scores, and prediction against truth."""

    def show(result: SplitResult) -> Values | None:
        rows = [_row(row) for row in result.details.get("per_number") or []]
        return {"rows": rows} if rows else None

    return per_split(view, "numbers.html", show, {})


def _row(row: JsonMapping) -> Values:
    shares = {"r2": True, "mae": False, "rmse": False}
    cells = [score_words(to_score(row.get(key)), share=share) for key, share in shares.items()]
    points = np.array([row["truth"], row["predicted"]], np.float64)
    return {
        "name": row["name"],
        "mean": number(row["mean"]),
        "deviation": number(row["deviation"]),
        "cells": cells,
        "points": _points(points),
        "ends": [number(float(points.min())), number(float(points.max()))],
        "side": SIDE,
        "margin": MARGIN,
    }


def _points(points: np.ndarray) -> list[tuple[float, float]]:
    """Truth and prediction [2, n] as points in the figure, on one scale."""
    low, high = points.min(), points.max()
    shares = (points - low) / max(high - low, 1e-12)
    inner = SIDE - 2 * MARGIN
    return [(round(MARGIN + x * inner, 1), round(SIDE - MARGIN - y * inner, 1)) for x, y in shares.T]


SECTIONS = (
    Section(key="numbers", title="Number by number", show=numbers, empty=NOT_SCORED),
    Section(key="mistakes", title="Largest errors", show=mistakes_in("number_mistakes.html"), empty=NOT_SCORED),
)


def overview(view: View, result: SplitResult) -> tuple[Markup, Markup]:
    """Prediction against truth of the first number, and pictures of the largest errors."""
    row = _row(result.details["per_number"][0])
    pictures = render("number_mistakes.html", {"values": {"cards": mistake_cards(view, result)[:NUM_CARDS]}})
    return render("number_figure.html", {"row": row}), pictures
