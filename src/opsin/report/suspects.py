"""One page over samples whose labels are suspected: worst first, each with its picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from markupsafe import Markup

from opsin.io.files import write_atomically
from opsin.report.page import policy
from opsin.report.render import Values, picture, render, source

MOST_CARDS = 400
"""Largest number of suspects in a section; the table has all."""


def write_suspects_page(
    out: Path,
    groups: Sequence[tuple[str, str, Iterable[tuple[np.ndarray, Values]]]],
    *,
    name: str,
    data: str,
    words: str,
    verdicts: Path,
) -> Path:
    """Write a self-contained page.

    Args:
        out: the file to write.
        groups: sections: title, caption, and for each sample its pixels uint8 [C, h, w] and what is told of it; the
            first `MOST_CARDS` are taken.
        name: of the data set.
        data: how the command line names it.
        words: how the suspects were found.
        verdicts: the table that is to be edited.
    """
    style = source("figures.css") + source("page.css")
    values = {
        "name": name,
        "source": data,
        "words": words,
        "verdicts": str(verdicts),
        "groups": [
            (title, note, [{**about, "picture": picture(pixels)} for pixels, about in islice(cards, MOST_CARDS)])
            for title, note, cards in groups
        ],
        "style": Markup(style),
        "policy": policy(style),
    }
    write_atomically(out, render("clean.html", values).encode("utf-8"))
    return out
