"""One page over samples whose labels are suspected: worst first, each with its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from opsin.io.files import write_atomically
from opsin.report.page import policy
from opsin.report.render import picture, render, source

MOST_CARDS = 400
"""Largest number of suspects in a section; the table has all."""


def write_suspects_page(
    out: Path,
    groups: Sequence[tuple[str, str, Sequence[tuple[np.ndarray, Mapping[str, Any]]]]],
    *,
    name: str,
    data: str,
    words: str,
    verdicts: Path,
) -> Path:
    """Write a self-contained page.

    Args:
        out: the file to write.
        groups: sections: title, caption, and for each sample its pixels uint8 [C, h, w] and its description.
        name: name of the data set.
        data: its name on the command line.
        words: description of the method.
        verdicts: the table to edit.
    """
    style = source("figures.css") + source("page.css")
    values = {
        "name": name,
        "source": data,
        "words": words,
        "verdicts": str(verdicts),
        "groups": [
            (title, note, [{**about, "picture": picture(pixels)} for pixels, about in cards[:MOST_CARDS]])
            for title, note, cards in groups
        ],
        "style": Markup(style),
        "policy": policy(style),
    }
    write_atomically(out, render("clean.html", values).encode("utf-8"))
    return out
