"""The report of a lab: one printable HTML page that needs neither network nor script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from opsin.io.files import write_atomically
from opsin.labs.evidence import Figure
from opsin.labs.lab import Lab
from opsin.report.curves import Panel, Series, line_figure
from opsin.report.page import policy
from opsin.report.render import picture, render, source
from opsin.runs import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from opsin.labs import LabResult
    from opsin.labs.evidence import Table
    from opsin.labs.lab import Answer

ROLES = ("val", "train", "test", "plain")
VERDICTS = {"agrees": "val", "above": "val", "differs": "warn", "not comparable": ""}
"""What the page says of an answer beside the published one, and the role that colours it."""
STYLE = """
.opsin .answer { font-size: 16px; max-width: 80ch; }
.opsin .answers td { min-width: 90px; }
.opsin figure.pictures { display: flex; flex-wrap: wrap; gap: 14px; margin: 10px 0 4px; }
.opsin figure.pictures > div { width: 150px; font-size: 12.5px; color: var(--muted); }
.opsin svg .line.test { stroke: var(--test); } .opsin svg .ring.test { stroke: var(--test); }
.opsin section table { margin-top: 6px; } .opsin section figure { overflow-x: auto; }
.opsin section > p.caption { margin-top: 6px; }
.opsin header.top pre { margin-top: 10px; }
@media screen and (max-width: 640px) {
  .opsin table.answers, .opsin .answers tbody, .opsin .answers td { display: block; } .opsin .answers thead { display: none; }
  .opsin .answers tr { display: block; padding: 8px 0; border-bottom: 1px solid var(--grid); }
  .opsin .answers td { padding: 2px 0; border: 0; } .opsin .answers td:empty { display: none; }
  .opsin .answers td[data-label]::before { content: attr(data-label) ": "; color: var(--muted); }
}
"""


def write_lab_report(lab: Lab, found: LabResult) -> Path:
    """Write the page of a run of a lab where `found.report` says."""
    style = source("figures.css") + source("page.css") + STYLE
    tables = {f"table {table.name}": table for table in found.tables}
    figures = {f"figure {figure.name}": figure for figure in found.figures}
    told: set[str] = set()
    values: dict[str, Any] = {
        "lab": lab,
        "found": found,
        "parts": [_part(answer, tables, figures, told) for answer in found.answers],
        "data": sorted({str(Run(path).data.name) for path in found.runs}),
        "style": Markup(style),
        "policy": policy(style),
    }
    write_atomically(found.report, render("lab.html", values).encode("utf-8"))
    return found.report


def write_index(
    path: Path, labs: Sequence[Lab], results: Sequence[LabResult], failures: Mapping[str, str], *, seconds: float
) -> Path:
    """Write the page that lists the labs of one run of all: time, what agrees, and the way to each report.

    Args:
        path: of the page; the reports lie in folders beside it.
        labs: in order.
        results: of those that ended.
        failures: why the others did not, by name.
        seconds: of all together.
    """
    style = source("figures.css") + source("page.css") + STYLE
    found = {result.lab: result for result in results}
    rows = [
        {
            "lab": lab,
            "failure": failures.get(lab.name, ""),
            **(_line(found[lab.name], path) if lab.name in found else {}),
        }
        for lab in labs
    ]
    values = {"rows": rows, "seconds": seconds, "style": Markup(style), "policy": policy(style)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render("lab_index.html", values).encode("utf-8"))
    return path


def _line(result: LabResult, index: Path) -> dict[str, Any]:
    """The line of a lab: its result, and its answers to what was published by verdict."""
    compared = [answer for answer in result.answers if answer.published]
    verdicts = {words: sum(_verdict(answer) == words for answer in compared) for words in VERDICTS}
    told = ", ".join(f"{count} {words}" for words, count in verdicts.items() if count)
    return {"result": result, "told": told or "–", "page": result.report.relative_to(index.parent.resolve()).as_posix()}


def _part(answer: Answer, tables: dict[str, Table], figures: dict[str, Figure], told: set[str]) -> dict[str, Any]:
    """An answer with what it cites; a table or figure stands where it is cited first."""
    new = [name for name in answer.evidence if name not in told]
    told.update(new)
    verdict = _verdict(answer)
    return {
        "answer": answer,
        "verdict": verdict if answer.published else "",
        "role": VERDICTS[verdict],
        "tables": [tables[name] for name in new if name in tables],
        "figures": [_drawn(figures[name]) for name in new if name in figures],
        "runs": [name.removeprefix("run ") for name in answer.evidence if name.startswith("run ")],
        "above": [name for name in answer.evidence if name not in new and not name.startswith("run ")],
    }


def _verdict(answer: Answer) -> str:
    """A key of `VERDICTS`."""
    if answer.agrees is None:
        return "not comparable"
    return "agrees" if answer.agrees else "above" if answer.above else "differs"


def _drawn(figure: Figure) -> dict[str, Any]:
    """A figure as the page holds it."""
    shown = [(caption, picture(pixels)) for caption, pixels in figure.pictures]
    return {"title": figure.title, "pictures": shown, "lines": _lines(figure) if figure.lines else ""}


def _lines(figure: Figure) -> Markup:
    series = tuple(
        Series(name=name, role=ROLES[place % len(ROLES)], points=points)
        for place, (name, points) in enumerate(figure.lines.items())
    )
    unit = "%" if figure.share else ""
    return line_figure(Panel(title=figure.title, unit=unit, series=series, share=figure.share))
