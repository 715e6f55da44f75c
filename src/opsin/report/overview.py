"""One page over several runs: each task's question, score and pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from opsin.io.files import write_atomically
from opsin.report.curves import learning_panels
from opsin.report.page import policy
from opsin.report.render import Values, render, source
from opsin.report.sections import headline
from opsin.report.view import View, view_of
from opsin.runs import Run
from opsin.score_notes import selection_words
from opsin.tasks.cards import card_of, part_of


def write_overview(runs: Sequence[Run], out: Path, *, title: str, words: str) -> Path:
    """Write one self-contained HTML page over `runs`; it links to the report of each.

    Args:
        runs: finished runs whose reports are written.
        out: the file to write.
        title: title of the page.
        words: a sentence under the title.

    Raises:
        InputError: a file of a run is damaged.
    """
    style = source("figures.css") + source("page.css") + source("overview.css")
    values = {
        "title": title,
        "words": words,
        "parts": [_part(view_of(run), _link(run, out)) for run in runs],
        "style": Markup(style),
        "policy": policy(style),
    }
    write_atomically(out, render("overview.html", values).encode("utf-8"))
    return out


def _link(run: Run, page: Path) -> str:
    """The relative address of a run's report."""
    return Path(os.path.relpath(run.path / "report.html", page.parent)).as_posix()


def _part(view: View, link: str) -> Values:
    """The page's part on one run."""
    card = card_of(view.task)
    result = view.results[0] if view.results else None
    figure, pictures = part_of(view.task, "report").overview(view, result) if result else ("", "")
    return {
        **headline(view),
        "question": card.question,
        "what": card.words,
        "link": link,
        "panels": learning_panels(view)[:2] + ([figure] if result else []),
        "pictures": pictures,
        "note": (view.data.notes or ("",))[0],
        "curve_note": _curve_note(view),
        "images": view.data.splits["train"].n if "train" in view.data.splits else None,
    }


def _curve_note(view: View) -> str:
    """How the epoch was chosen whose score on val the curve marks; "" where the notes on the scores shown say it."""
    chosen = next((found.scores.selection for found in view.results[1:] if found.name == "val"), None)
    return f"The score on val that is marked is {selection_words(chosen)}" if chosen else ""
