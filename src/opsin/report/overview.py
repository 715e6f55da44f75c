"""One page over several runs: the question that each task answers, how well, and pictures of its answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from opsin.io.files import write_atomically
from opsin.report.classify import mistake_cards
from opsin.report.curves import learning_panels
from opsin.report.figures import confusion_figure
from opsin.report.localize import box_cards, threshold_figure
from opsin.report.page import policy
from opsin.report.render import render, source
from opsin.report.sections import headline
from opsin.report.segment import COLUMNS, image_rows, legend
from opsin.report.view import SplitResult, View, view_of
from opsin.runs import Run

QUESTIONS = {
    "classify": ("What is it?", "classification: one class for each image"),
    "localize": ("What is it, and where?", "localization: a class and a box for each image"),
    "segment": ("Which pixels?", "segmentation: a class for each pixel"),
}
NUM_CARDS = 12
ROWS_OF = ("best", "middling", "worst")
"""Which images of a segmentation are shown, one of each kind."""


def write_overview(runs: Sequence[Run], out: Path, *, title: str, words: str) -> Path:
    """Write one self-contained HTML page over `runs`; it links to the report of each.

    Args:
        runs: finished runs whose reports are written.
        out: the file to write.
        title: of the page.
        words: a sentence under the title.

    Raises:
        InputError: a file of a run is damaged.
    """
    style = source("figures.css") + source("page.css") + source("overview.css")
    values = {
        "title": title,
        "words": words,
        "parts": [_part(view_of(run), _link(run, out)) for run in runs],
        "columns": COLUMNS,
        "style": Markup(style),
        "policy": policy(style),
    }
    write_atomically(out, render("overview.html", values).encode("utf-8"))
    return out


def _link(run: Run, page: Path) -> str:
    """The address of a run's report, from where the page lies."""
    return Path(os.path.relpath(run.path / "report.html", page.parent)).as_posix()


def _part(view: View, link: str) -> Mapping[str, Any]:
    """What the page says of one run."""
    question, what = QUESTIONS[view.task]
    result = view.results[0] if view.results else None
    figure, pictures = _SHOWN[view.task]
    return {
        **headline(view),
        "question": question,
        "what": what,
        "link": link,
        "panels": learning_panels(view)[:2] + ([figure(view, result)] if result else []),
        "pictures": pictures(view, result) if result else {},
        "key": legend(view) if view.task == "segment" else {},
        "note": (view.data.notes or ("",))[0],
        "images": view.data.splits["train"].n if "train" in view.data.splits else None,
    }


def _confusion(view: View, result: SplitResult) -> Markup:
    return confusion_figure(np.asarray(result.details["confusion"], dtype=np.int64), view.classes)


def _curve(view: View, result: SplitResult) -> Markup:
    return threshold_figure(result.details["curve"], result.details["threshold"])


def _mistakes(view: View, result: SplitResult) -> Mapping[str, Any]:
    return {"cards": mistake_cards(view, result)[:NUM_CARDS]}


def _boxes(view: View, result: SplitResult) -> Mapping[str, Any]:
    """Random boxes, and the worst ones: so that the page shows what is usual and what goes wrong."""
    cards = box_cards(view, result)
    kinds = (("random", "Random images"), ("worst", "The worst boxes"))
    groups = [(title, [card for card in cards if card["kind"] == kind][: NUM_CARDS // 2]) for kind, title in kinds]
    return {"groups": [(title, group) for title, group in groups if group]}


def _rows(view: View, result: SplitResult) -> Mapping[str, Any]:
    rows = image_rows(view, result)
    chosen = [next((row for row in rows if row["kind"] == kind), None) for kind in ROWS_OF]
    return {"rows": [row for row in chosen if row is not None] or rows[:3]}


_SHOWN: Mapping[str, tuple[Callable[[View, SplitResult], Markup], Callable[[View, SplitResult], Mapping[str, Any]]]] = {
    "classify": (_confusion, _mistakes),
    "localize": (_curve, _boxes),
    "segment": (_confusion, _rows),
}
"""The figure and the pictures of each task."""
