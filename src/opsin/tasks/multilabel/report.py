"""Report sections and overview of multi-label classification."""

from __future__ import annotations

from markupsafe import Markup

from opsin.report.blocks import NUM_CARDS, mistake_cards, mistakes_in, per_split
from opsin.report.figures import interval_bar
from opsin.report.formats import percent
from opsin.report.render import Values, render
from opsin.report.sections import NOT_SCORED, Section, score_words
from opsin.report.view import SplitResult, View, to_score
from opsin.types import JsonMapping

PARTS = {"average_precision": "Average precision", "precision": "Precision", "recall": "Recall", "f1": "F1"}


def per_class(view: View) -> Markup | None:
    """Average precision of each class; precision, recall and F1 at its threshold."""

    def show(result: SplitResult) -> Values | None:
        rows = [_class_row(row, result.name) for row in result.details.get("per_class") or []]
        return {"rows": rows, "absent": result.details.get("absent_classes") or []} if rows else None

    return per_split(view, "tag_classes.html", show, {"titles": tuple(PARTS.values())})


def _class_row(row: JsonMapping, role: str) -> Values:
    scores = [to_score(row.get(key)) for key in PARTS]
    return {
        "name": str(row.get("class", "")),
        "support": row.get("support"),
        "threshold": percent(row["threshold"], 1),
        "cells": [(*score_words(score), interval_bar(score, 0.0, 1.0, role)) for score in scores],
    }


SECTIONS = (
    Section(key="classes", title="Class by class", show=per_class, empty=NOT_SCORED),
    Section(key="mistakes", title="Worst predictions", show=mistakes_in("tag_mistakes.html"), empty=NOT_SCORED),
)


def overview(view: View, result: SplitResult) -> tuple[Markup, Markup]:
    """The classes with their average precision, and pictures of mistakes."""
    rows = [_class_row(row, result.name) for row in result.details.get("per_class") or []]
    pictures = render("overview_multilabel.html", {"cards": mistake_cards(view, result)[:NUM_CARDS]})
    return render("tag_bars.html", {"rows": rows}), pictures
