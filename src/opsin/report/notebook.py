"""A run in a notebook: headline and learning curves."""

from __future__ import annotations

from markupsafe import Markup

from opsin.report.curves import learning_panels
from opsin.report.render import render, source
from opsin.report.sections import headline
from opsin.report.view import view_of
from opsin.runs import Run


def run_html(run: Run) -> str:
    """A run as a piece of HTML: name, headline score, learning curves. No scripts or external resources.

    Raises:
        ConfigError: config.json is not a config.
        InputError: a file of the run is damaged.
    """
    view = view_of(run)
    style = Markup(source("figures.css") + source("notebook.css"))
    return str(render("notebook.html", {**headline(view), "panels": learning_panels(view), "style": style}))
