"""The report's sections on diagnosis: findings of the doctor, and robustness to image changes."""

from __future__ import annotations

from markupsafe import Markup

from opsin.report.render import render
from opsin.report.section import Section
from opsin.report.small_figures import curve_figure, finding_figure
from opsin.report.view import View
from opsin.tasks.cards import score_kind

NUM_CLASSES = 6


def findings(view: View) -> Markup | None:
    """Findings: evidence, figure, remedy."""
    if view.diagnosis is None or not view.diagnosis.checks:
        return None
    rows = [
        (finding, Markup("") if finding.figure is None else finding_figure(finding.figure))
        for finding in view.diagnosis.findings
    ]
    return render("findings.html", {"rows": rows, "diagnosis": view.diagnosis, "folder": view.folder})


def robustness(view: View) -> Markup | None:
    """A small figure for each change, on each measured split, and the classes with the largest loss."""
    if not view.cards:
        return None
    cards = [(card, [curve_figure(curve, card.clean) for curve in card.curves]) for card in view.cards]
    title = score_kind(view.task, view.main_score).short_title
    return render("robustness.html", {"cards": cards, "score": title, "num_classes": NUM_CLASSES})


DIAGNOSIS = (
    Section(
        key="doctor",
        title="Doctor",
        show=findings,
        empty="There was no training to examine.",
    ),
    Section(
        key="robustness",
        title="Robustness",
        show=robustness,
        empty="Not measured: `opsin evaluate RUN --robustness` does so.",
    ),
)
